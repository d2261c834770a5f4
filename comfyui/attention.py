"""Methods inside the attention of UNets, as patches of ComfyUI's blocks: NAG and NegToMe."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from negguide import maths
from negguide.methods.base import Step, Window
from negguide.methods.nag import NAG
from negguide.methods.negtome import NegToMe

from .negatives import Entry
from .steps import step_at

if TYPE_CHECKING:
    from torch import Tensor

_KEY = "negguide nag"
_PROMPT = 0
"""The place of the prompt in ComfyUI's `cond_or_uncond`."""


class AttentionToText:
    """NAG where a UNet attends to text.

    The tokens of the negatives are put behind those of the prompt, so that the layer makes keys and values of them, too; then
    the image tokens of the prompt attend to each text apart.
    """

    def __init__(self, method: NAG, entries: Sequence[Entry]) -> None:
        self.method = method
        self.entries = [entry for entry in entries if entry.weight and not entry.window.is_empty]

    def lengthen(
        self, n: Tensor, context: Tensor, values: Tensor, options: dict[str, Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Patch before the keys: n (B, N, C), context and values (B, L, D) -> the same with L tokens more per open negative."""
        import torch

        texts = [entry.conditioning[0][0].to(context) for entry in self._open(n, options)]
        wide = [text.expand(len(context), -1, -1) for text in texts]
        return n, torch.cat([context, *wide], 1), torch.cat([values, *wide], 1)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, options: dict[str, Any]) -> Tensor:
        """Patch in the place of attention: q (B, N, C), k and v (B, L + more, C) -> (B, N, C)."""
        import torch
        from comfy.ldm.modules.attention import optimized_attention

        def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            precision = options.get("attn_precision")
            output: Tensor = optimized_attention(q, k, v, options["n_heads"], attn_precision=precision)
            return output

        entries = self._open(q, options)
        lengths = [entry.conditioning[0][0].shape[1] for entry in entries]
        own, *keys = k.split([k.shape[1] - sum(lengths), *lengths], 1)
        own_values, *values = v.split([own.shape[1], *lengths], 1)
        plain = attention(q, own, own_values)
        if not entries:
            return plain
        rows = _rows(_PROMPT, len(q), options)
        if not rows:
            return plain
        z_pos = plain[rows]
        z_neg = [attention(q[rows], key[rows], value[rows]) for key, value in zip(keys, values, strict=True)]
        mixed = maths.compose(z_neg, [self._weight(entry, q, options) for entry in entries], base=z_pos)
        method = self.method
        assert method.scale is not None and method.tau is not None and method.alpha is not None
        guided = maths.nag(z_pos, mixed, method.scale, method.tau, method.alpha).to(plain.dtype)
        result = plain.clone()
        result[torch.tensor(rows, device=plain.device)] = guided
        return result

    def around_sampling(self, executor: Any, *args: Any, **more: Any) -> Any:
        """Wrapper of ComfyUI's outer_sample: sees that no later node has taken the place of ours."""
        options = executor.class_obj.model_options["transformer_options"]
        if any(patch != self.attend for patch in options["patches_replace"]["attn2"].values()):
            raise ValueError(
                "another node of this MODEL replaces attention to text (IP-Adapter, say), as NAG does; use one"
            )
        return executor(*args, **more)

    def _open(self, tokens: Tensor, options: dict[str, Any]) -> list[Entry]:
        step = _step(tokens, options)
        return [entry for entry in self.entries if entry.window.is_open(step)]

    def _weight(self, entry: Entry, q: Tensor, options: dict[str, Any]) -> float | Tensor:
        """Its weight, with a mask (1, N, 1): the mask on the grid of this layer's image tokens."""
        if entry.mask is None:
            return entry.weight
        from negguide.methods.mask import Mask

        height, width = _grid(q.shape[1], options)
        mask = Mask.of(entry.mask.reshape(entry.mask.shape[-2:]).cpu().float()).tensor(height, width)
        return entry.weight * mask.flatten().to(q.device).view(1, -1, 1)


def with_nag(model: Any, method: NAG, entries: Sequence[Entry]) -> Any:
    """A MODEL whose attention to text moves away from the negatives; a neutral NAG leaves the copy as it is.

    Raises `ValueError` for models that are no UNets, and where attention to text is replaced already.
    """
    patched = model.clone()
    blocks = _blocks(patched, "NAG")
    patch = AttentionToText(method, entries)
    if method.scale == 1 or method.alpha == 0 or not patch.entries:
        return patched
    for entry in patch.entries:
        if len(entry.conditioning) != 1:
            raise ValueError(
                f"a negative of NAG has {len(entry.conditioning)} combined conditionings; chain Negative nodes"
            )
    if patched.model_options["transformer_options"].get("patches_replace", {}).get("attn2"):
        raise ValueError(
            "attention to text of this MODEL is replaced already (by IP-Adapter, or another NAG); use one of them, with all "
            "negatives in one chain"
        )
    patched.set_model_attn2_patch(patch.lengthen)
    for name, number in blocks:
        patched.set_model_attn2_replace(patch.attend, name, number)
    patched.add_wrapper_with_key("outer_sample", _KEY, patch.around_sampling)
    return patched


def with_negtome(model: Any, method: NegToMe) -> Any:
    """A MODEL whose image tokens move away from those of the other pictures of the batch, in the up blocks of a UNet."""
    patched = model.clone()
    _blocks(patched, "NegToMe")
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
        if place is None or place[0] != "output" or not window.is_open(_step(n, options)):
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


def _step(tokens: Tensor, options: dict[str, Any]) -> Step:
    return step_at(tokens, options["sigmas"], options)


def _rows(place: int, count: int, options: dict[str, Any]) -> list[int]:
    """The rows that belong to the prompt (0) or the negative prompt (1), of `count` rows."""
    places = options["cond_or_uncond"]
    size = count // len(places)
    return [at * size + row for at, found in enumerate(places) if found == place for row in range(size)]


def _grid(tokens: int, options: dict[str, Any]) -> tuple[int, int]:
    """Height and width of a layer's image tokens, halved from those of the latents."""
    height, width = options["original_shape"][-2:]
    while height * width > tokens and (height > 1 or width > 1):
        height, width = -(-height // 2), -(-width // 2)
    if height * width != tokens:
        raise ValueError(
            f"{tokens} image tokens are no grid of latents {tuple(options['original_shape'])}; leave the mask out"
        )
    return height, width


def _blocks(model: Any, name: str) -> list[tuple[str, int]]:
    """The places of blocks in a UNet: ("input", 0), ..., ("middle", 0), ..., ("output", 0), ..."""
    unet = model.model.diffusion_model
    if not hasattr(unet, "input_blocks") or not hasattr(unet, "output_blocks"):
        raise ValueError(
            f"{name} works here on UNets (Stable Diffusion 1 and 2, SDXL); {type(unet).__name__} is none. Negatives on "
            "predictions (Perp-Neg, Signed negatives) work on every model"
        )
    counts = {"input": len(unet.input_blocks), "middle": 1, "output": len(unet.output_blocks)}
    return [(part, number) for part, count in counts.items() for number in range(count)]
