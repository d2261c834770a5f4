"""NegToMe in the up blocks of UNets, as patches of ComfyUI's blocks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from negguide import maths
from negguide.methods.base import Window
from negguide.methods.negtome import NegToMe

from .blocks import blocks_of, step_in

if TYPE_CHECKING:
    from torch import Tensor


def with_negtome(model: Any, method: NegToMe) -> Any:
    """A MODEL whose image tokens move away from those of the other pictures of the batch, in the up blocks of a UNet."""
    patched = model.clone()
    blocks_of(patched, "NegToMe")
    assert method.alpha is not None and method.threshold is not None and isinstance(method.window, Window)
    if method.alpha == 0 or method.threshold >= 1 or method.window.is_empty:
        return patched
    patched.set_model_attn1_output_patch(_pusher(method, method.alpha, method.threshold, method.window))
    return patched


def _pusher(
    method: NegToMe, alpha: float, threshold: float, window: Window
) -> Callable[[Tensor, dict[str, Any]], Tensor]:
    told: list[bool] = []

    def push(n: Tensor, options: dict[str, Any]) -> Tensor:
        place = options.get("block")
        if place is None or place[0] != "output" or not window.is_open(step_in(n, options)):
            return n
        chunks = n.chunk(len(options["cond_or_uncond"]))
        if len(chunks[0]) == 1:
            if not told:
                told.append(True)
                logging.warning("negguide: NegToMe has no effect on a single picture; raise batch_size")
            return n
        result = n.clone()
        for before, after in zip(chunks, result.chunk(len(chunks)), strict=True):
            if method.reference == "all":
                maths.push_apart(before, alpha, threshold, method.match, out=after)
            else:
                maths.push_from(before[1:], before[0], alpha, threshold, method.match, out=after[1:])
        return result

    return push
