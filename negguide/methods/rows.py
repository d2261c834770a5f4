"""Let a method act on some images of a batch only: after its event, the other rows are what they were before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from negguide.methods.base import Denoised, Guidance
from negguide.methods.tokens import Tokens

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def guidance_of_rows(guidance: Guidance, on: Tensor | None) -> Iterator[None]:
    """Within the block the guidance may be edited; afterwards only rows where `on` (B,) bool is true are edited.

    None: all of them.
    """
    import torch

    if on is None:
        yield
        return
    base, scale, offset, posts = guidance.base, guidance.scale, guidance.offset, len(guidance.post)
    edited, direction, touched = guidance.direction_edited, guidance.direction, guidance.touched
    guidance.touched = False
    yield
    if not guidance.touched:
        guidance.touched = touched
        return
    if guidance.direction_edited and (not edited or guidance.direction is not direction):
        guidance.direction = chosen_rows(on, guidance.direction, direction)
    if guidance.base is not base:
        guidance.base = chosen_rows(on, guidance.base, base)
    if guidance.scale is not scale:
        like = guidance.cond.new_ones((len(on), *(1 for _ in guidance.cond.shape[1:])))
        guidance.scale = chosen_rows(on, guidance.scale * like, scale * like)
    if guidance.offset is not None and guidance.offset is not offset:
        guidance.offset = chosen_rows(
            on, guidance.offset, torch.zeros_like(guidance.offset) if offset is None else offset
        )
    for at in range(posts, len(guidance.post)):
        guidance.post[at] = _partly(guidance.post[at], on)


@contextmanager
def tokens_of_rows(tokens: Tokens, on: Tensor | None) -> Iterator[None]:
    """As `guidance_of_rows`, for the image tokens of every branch."""
    if on is None:
        yield
        return
    before = {branch: tokens[branch] for branch in tokens.branches}
    yield
    for branch, rows in before.items():
        if tokens[branch].data_ptr() != rows.data_ptr():  # an edit has its own storage
            tokens[branch] = chosen_rows(on, tokens[branch], rows)


@contextmanager
def estimate_of_rows(denoised: Denoised, on: Tensor | None) -> Iterator[None]:
    """As `guidance_of_rows`, for the clean estimate."""
    before, touched = denoised.x0, denoised.touched
    denoised.touched = False
    yield
    if denoised.touched and on is not None:
        denoised.x0 = chosen_rows(on, denoised.x0, before)
    denoised.touched |= touched


def without_guidance(guidance: Guidance) -> None:
    """Make the result the prompt's own prediction."""
    guidance.base = guidance.cond
    guidance.direction = guidance.cond.new_zeros(guidance.cond.shape)
    if guidance.offset is not None:
        guidance.offset = guidance.cond.new_zeros(guidance.cond.shape)


def chosen_rows(on: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """`new` (B, ...) where `on` (B,) is true, `old` elsewhere; dtype of `new`."""
    import torch

    return torch.where(on.view(-1, *(1 for _ in new.shape[1:])), new, old.to(new.dtype))


def _partly(function: Callable[[Tensor], Tensor], on: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda prediction: chosen_rows(on, function(prediction), prediction)
