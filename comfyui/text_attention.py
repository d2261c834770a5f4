"""Methods where a UNet attends to text, as patches of ComfyUI's blocks: NAG and VSF."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from negguide import maths
from negguide.methods.base import Window
from negguide.methods.nag import NAG
from negguide.methods.recommended import BESIDE_GUIDANCE, EARLY
from negguide.methods.vsf import VSF

from .blocks import PROMPT, blocks_of, grid_of, rows_of, step_in
from .negatives import Entry

if TYPE_CHECKING:
    from torch import Tensor

_KEY = "negguide attention"
USUAL: dict[str, Any] = {"scale": 3.0, "tau": 2.5, "alpha": 0.5}
"""NAG's settings for UNets; there is no other family behind its node."""


class AttentionToText:
    """Attention to text that knows the negatives, too.

    Their tokens are put behind those of the prompt, so that the layer makes keys and values of them; then the image tokens of the
    prompt meet them as the method says, and those of all other conditionings do not.
    """

    name = ""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = [entry for entry in entries if entry.weight and not entry.window.is_empty]

    def __deepcopy__(self, memo: Any) -> AttentionToText:
        return self  # ComfyUI copies what a MODEL holds; a run has one state

    def text(self, entry: Entry) -> Tensor:
        """The tokens (1, L, D) that are put behind those of the prompt."""
        tokens: Tensor = entry.conditioning[0][0]
        return tokens

    def meet(
        self, q: Tensor, k: Tensor, v: Tensor, others: Sequence[tuple[Entry, Tensor, Tensor]], options: dict[str, Any]
    ) -> Tensor:
        """What the prompt's image tokens make of both texts: q (B, N, C), k, v (B, L, C), `others` with theirs -> (B, N, C)."""
        raise NotImplementedError

    def lengthen(
        self, n: Tensor, context: Tensor, values: Tensor, options: dict[str, Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Patch before the keys: n (B, N, C), context and values (B, L, D) -> the same with L tokens more per open negative."""
        import torch

        texts = [self.text(entry).to(context) for entry in self._open(n, options)]
        wide = [text.expand(len(context), -1, -1) for text in texts]
        return n, torch.cat([context, *wide], 1), torch.cat([values, *wide], 1)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, options: dict[str, Any]) -> Tensor:
        """Patch in the place of attention: q (B, N, C), k and v (B, L + more, C) -> (B, N, C)."""
        import torch

        entries = self._open(q, options)
        lengths = [self.text(entry).shape[1] for entry in entries]
        own, *keys = k.split([k.shape[1] - sum(lengths), *lengths], 1)
        own_values, *values = v.split([own.shape[1], *lengths], 1)
        plain = attention(q, own, own_values, options)
        rows = rows_of(PROMPT, len(q), options)
        if not entries or not rows:
            return plain
        others = [(entry, key[rows], value[rows]) for entry, key, value in zip(entries, keys, values, strict=True)]
        met = self.meet(q[rows], own[rows], own_values[rows], others, options).to(plain.dtype)
        result = plain.clone()
        result[torch.tensor(rows, device=plain.device)] = met
        return result

    def around_sampling(self, executor: Any, *args: Any, **more: Any) -> Any:
        """Wrapper of ComfyUI's outer_sample: sees that no later node has taken the place of ours."""
        options = executor.class_obj.model_options["transformer_options"]
        if any(patch != self.attend for patch in options["patches_replace"]["attn2"].values()):
            raise ValueError(
                f"another node of this MODEL replaces attention to text (IP-Adapter, say), as {self.name} does; use one"
            )
        return executor(*args, **more)

    def _open(self, tokens: Tensor, options: dict[str, Any]) -> list[Entry]:
        step = step_in(tokens, options)
        return [entry for entry in self.entries if entry.window.is_open(step)]


class NormalisedAttention(AttentionToText):
    """NAG, with settings of its own at cfg 1."""

    name = "NAG"

    def __init__(self, method: NAG, entries: Sequence[Entry]) -> None:
        super().__init__(entries)
        self.method = method

    def meet(
        self, q: Tensor, k: Tensor, v: Tensor, others: Sequence[tuple[Entry, Tensor, Tensor]], options: dict[str, Any]
    ) -> Tensor:
        z_pos = attention(q, k, v, options)
        z_neg = [attention(q, key, value, options) for _, key, value in others]
        mixed = maths.compose(z_neg, [_weight(entry, q, options) for entry, _, _ in others], base=z_pos)
        method = self.method
        assert method.scale is not None and method.tau is not None and method.alpha is not None
        return maths.nag(z_pos, mixed, method.scale, method.tau, method.alpha)


class RecommendedAttention(NormalisedAttention):
    """NAG as negguide recommends it: stronger and early beside guidance, by its own usual numbers at cfg 1."""

    name = "Recommended negatives"

    def __init__(self, entries: Sequence[Entry]) -> None:
        super().__init__(NAG("conditionings", **USUAL), entries)
        self._alone, self._always = self.method, self.entries
        self._beside = NAG("conditionings", **{**USUAL, **BESIDE_GUIDANCE["cross"]})
        self._early = [
            dataclasses.replace(entry, window=EARLY) if entry.window == Window() else entry for entry in self.entries
        ]

    def around_sampling(self, executor: Any, *args: Any, **more: Any) -> Any:
        guided = not math.isclose(getattr(executor.class_obj, "cfg", 1.0), 1.0)
        self.method, self.entries = (self._beside, self._early) if guided else (self._alone, self._always)
        return super().around_sampling(executor, *args, **more)


class ValueSignFlip(AttentionToText):
    """VSF: the words of the negatives stand in the prompt, with their values turned round."""

    name = "VSF"

    def __init__(self, scale: float, entries: Sequence[Entry]) -> None:
        super().__init__(entries)
        self.scale = scale

    def text(self, entry: Entry) -> Tensor:
        return super().text(entry)[:, list(entry.words or ())]

    def meet(
        self, q: Tensor, k: Tensor, v: Tensor, others: Sequence[tuple[Entry, Tensor, Tensor]], options: dict[str, Any]
    ) -> Tensor:
        import torch

        keys = [key for _, key, _ in others]
        values = [-self.scale * entry.weight * value for entry, _, value in others]
        return attention(q, torch.cat([k, *keys], 1), torch.cat([v, *values], 1), options)


def attention(q: Tensor, k: Tensor, v: Tensor, options: dict[str, Any]) -> Tensor:
    """ComfyUI's attention, by the means that it has chosen; q (B, N, C), k and v (B, L, C) -> (B, N, C)."""
    from comfy.ldm.modules.attention import optimized_attention

    output: Tensor = optimized_attention(q, k, v, options["n_heads"], attn_precision=options.get("attn_precision"))
    return output


def with_nag(model: Any, method: NAG, entries: Sequence[Entry]) -> Any:
    """A MODEL whose attention to text moves away from the negatives; a neutral NAG leaves the copy as it is."""
    return _patched(model, NormalisedAttention(method, entries), method.scale == 1 or method.alpha == 0)


def with_recommended(model: Any, entries: Sequence[Entry]) -> Any:
    """A UNet with NAG as it did best on the bundled models."""
    return _patched(model, RecommendedAttention(entries))


def with_vsf(model: Any, method: VSF, entries: Sequence[Entry]) -> Any:
    """A MODEL that reads the words of the negatives with their values turned round; neutral at scale 0.

    Raises `ValueError` where a negative has a mask, or where its words are not known.
    """
    assert method.scale is not None
    check_words(entries)
    return _patched(model, ValueSignFlip(method.scale, entries), method.scale == 0)


def check_words(entries: Sequence[Entry]) -> None:
    """Raise `ValueError` where a negative has a mask, or where its words are not known: VSF takes words."""
    for entry in entries:
        if not entry.words:
            raise ValueError(
                "VSF takes the words of a negative, which a conditioning does not show: make it by Negative text (negguide), "
                "with a text that says something"
            )
        if entry.mask is not None:
            raise ValueError("VSF cannot confine a negative to a mask; use NAG or Perp-Neg for that")


def _patched(model: Any, patch: AttentionToText, neutral: bool = False) -> Any:
    """A MODEL whose layers call the patch.

    Raises `ValueError` for models that are no UNets, and where attention to text is replaced already.
    """
    patched = model.clone()
    blocks = blocks_of(patched, patch.name)
    if neutral or not patch.entries:
        return patched
    for entry in patch.entries:
        if len(entry.conditioning) != 1:
            raise ValueError(
                f"a negative of {patch.name} has {len(entry.conditioning)} combined conditionings; chain Negative nodes"
            )
    if patched.model_options["transformer_options"].get("patches_replace", {}).get("attn2"):
        raise ValueError(
            "attention to text of this MODEL is replaced already (by IP-Adapter, or another NAG or VSF); use one of them, with "
            "all negatives in one chain"
        )
    patched.set_model_attn2_patch(patch.lengthen)
    for name, number in blocks:
        patched.set_model_attn2_replace(patch.attend, name, number)
    patched.add_wrapper_with_key("outer_sample", _KEY, patch.around_sampling)
    return patched


def _weight(entry: Entry, q: Tensor, options: dict[str, Any]) -> float | Tensor:
    """Its weight, with a mask (1, N, 1): the mask on the grid of this layer's image tokens."""
    if entry.mask is None:
        return entry.weight
    from negguide.methods.mask import Mask

    mask = Mask.of(entry.mask.reshape(entry.mask.shape[-2:]).cpu().float()).tensor(*grid_of(q.shape[1], options))
    return entry.weight * mask.flatten().to(q.device).view(1, -1, 1)
