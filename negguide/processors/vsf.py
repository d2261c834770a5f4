"""VSF as an attention processor, for layers that attend to text alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from negguide import maths
from negguide.engine.attend import LayerCall, attend, stand_in
from negguide.engine.attention_layers import text_of_layers
from negguide.methods.checks import finite
from negguide.methods.tokens import Layer
from negguide.pipeline.families import Unsupported
from negguide.processors.rows import Rows, check_rows, for_rows, guided_rows, texts_of
from negguide.processors.wrapping import WrappingProcessor, wrap


class VSFAttnProcessor(WrappingProcessor):
    """Value sign flip around another processor: a negative's words stand behind the prompt with their values turned round.

    Args:
        wrapped: the processor of a layer that attends to text alone (`attn2`).
        negatives: words as *the layer* gets them, (1, L, C) or (R, L, C) with R guided rows, without padding and marks;
            `wrap_vsf` makes them of prompt embeddings.
        weights: 0 or more for each negative; all 1 if left out. One of 0 is left out.
        scale: how strongly values are turned round, 1.5 usual; 0 is off.
        rows: which rows of a forward have the prompt; the others stay as they are.

    Raises:
        ValueError: for no negatives, numbers outside those bounds, lists of different lengths.
        Unsupported: at the first forward, in a layer that does not attend to text alone or hides its values.

    Source: arXiv:2508.10931.
    """

    def __init__(
        self,
        wrapped: object,
        negatives: Sequence[Tensor],
        weights: Sequence[float] | None = None,
        scale: float = 1.5,
        rows: Rows = "second half",
    ) -> None:
        super().__init__(wrapped)
        self.negatives = texts_of(negatives)
        self.weights = [1.0] * len(self.negatives) if weights is None else [finite("a weight", w, 0) for w in weights]
        if len(self.negatives) != len(self.weights):
            raise ValueError(f"{len(self.negatives)} negatives, {len(self.weights)} weights; give one each")
        self.scale = finite("scale", scale, 0)
        self.rows = check_rows(rows)

    def act(self, attn: Any, named: dict[str, Any]) -> Any:
        words = [(text, weight) for text, weight in zip(self.negatives, self.weights, strict=True) if weight]
        if self.scale == 0 or not words:
            return self.wrapped(attn, **named)
        before = named.get("encoder_hidden_states")
        text = before[0] if isinstance(before, tuple) else before
        if text is None or getattr(attn, "add_k_proj", None) is not None:
            raise Unsupported(
                f"VSFAttnProcessor needs a layer that attends to text alone; this one is {type(attn).__name__}, whose text shares "
                "it with an image. Use negguide.attach(pipe, VSF(...))"
            )
        rows = guided_rows(self.rows, text.shape[0])
        prompt = text[rows]
        behind = [for_rows(value.to(prompt), prompt.shape[0]) for value, _ in words]
        signs = [
            value.new_full((value.shape[1],), -self.scale * weight)
            for value, (_, weight) in zip(behind, words, strict=True)
        ]
        weights = torch.cat([prompt.new_ones(prompt.shape[1]), *signs])
        mask = _longer(named.get("attention_mask"), text.shape[0], rows, len(weights) - prompt.shape[1])
        guided = self._flipped(attn, named, torch.cat([prompt, *behind], dim=1), rows, mask, weights)
        if guided.shape[0] == text.shape[0]:
            return guided
        output = self.wrapped(attn, **named).clone()
        output[rows] = guided
        return output

    def _flipped(
        self, attn: Any, named: dict[str, Any], text: Tensor, rows: slice, mask: Tensor | None, weights: Tensor
    ) -> Tensor:
        asked = []

        def turned(*args: object, **kwargs: object) -> Tensor:
            asked.append(1)
            values: Tensor = attn.to_v(*args, **kwargs)
            return maths.flip_values(values, weights).to(values.dtype)

        alone = stand_in(attn, {"processor": self.wrapped, "to_v": turned})
        guided = attend(alone, LayerCall((), named), text, rows, mask, projected=True)
        if not asked:
            raise Unsupported(
                f"{type(self.wrapped).__name__} does not call the module's value projection, so VSF cannot turn values round; "
                "unfuse the projections (unfuse_qkv_projections)"
            )
        return guided


def _longer(mask: Tensor | None, count: int, rows: slice, words: int) -> Tensor | None:
    """The attention bias (B, 1, L) of the guided rows, open for the words behind the prompt."""
    if mask is None:
        return None
    own = mask[rows] if mask.shape[0] == count else mask
    return torch.nn.functional.pad(own, (0, words))


def wrap_vsf(
    denoiser: torch.nn.Module,
    negatives: Sequence[Tensor],
    weights: Sequence[float] | None = None,
    scale: float = 1.5,
    rows: Rows = "second half",
) -> list[str]:
    """Put `VSFAttnProcessor` around the processors of all layers that attend to text alone; the names of those layers.

    Args:
        denoiser: a UNet, PixArt, Sana, Wan, LTX ...; models whose text shares layers with the image raise `Unsupported`.
        negatives: embeddings (1, L, C) of a negative's words alone, without padding, as the denoiser takes them in
            `encoder_hidden_states`. Of CLIP's these are `embeds[:, 1 : 1 + number_of_tokens]`, without its marks; of a text encoder
            with a mask, as the attached method has it, `embeds[:, mask[0] > 0]`.
        weights, scale, rows: see `VSFAttnProcessor`.
    """
    with torch.no_grad():
        texts = [text_of_layers(denoiser, text)[0] for text in texts_of(negatives)]

    def make(layer: Layer, present: object) -> WrappingProcessor | None:
        if layer.kind != "cross" or not layer.reads_any_text:
            return None
        return VSFAttnProcessor(present, texts, weights, scale, rows)

    return wrap(denoiser, make)
