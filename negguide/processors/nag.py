"""NAG as an attention processor, for layers that attend to text alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from negguide import maths
from negguide.engine.attend import LayerCall, attend, behind_attention, output_projection, stand_in
from negguide.engine.attention_layers import text_of_layers
from negguide.methods.checks import finite
from negguide.methods.tokens import Layer
from negguide.pipeline.families import Unsupported
from negguide.processors.rows import Rows, check_rows, for_rows, guided_rows, texts_of
from negguide.processors.wrapping import WrappingProcessor, wrap


class NAGAttnProcessor(WrappingProcessor):
    """Normalised attention guidance around another processor: the same numbers as the attached method `NAG`.

    Args:
        wrapped: the processor of a layer that attends to text alone (`attn2`).
        negatives: texts as *the layer* gets them, (1, L, C) or (R, L, C) with R guided rows; `wrap_nag` makes them of
            prompt embeddings.
        biases: for each negative its attention bias (1, 1, L), or None.
        weights: 0 or more for each negative; all 1 if left out.
        scale: 1 is neutral, 3 usual for UNets, 9 for Wan; up to 11.
        tau: how long the moved attention may become, 1 or more.
        alpha: how much of it is blended in, 0 (neutral) to 1.
        rows: which rows of a forward have the prompt; the others stay as they are.

    Raises:
        ValueError: for no negatives, numbers outside those bounds, lists of different lengths.
        Unsupported: at the first forward, in a layer that does not attend to text alone.

    Source: arXiv:2505.21179, section 3.
    """

    def __init__(
        self,
        wrapped: object,
        negatives: Sequence[Tensor],
        biases: Sequence[Tensor | None] | None = None,
        weights: Sequence[float] | None = None,
        scale: float = 3.0,
        tau: float = 2.5,
        alpha: float = 0.5,
        rows: Rows = "second half",
    ) -> None:
        super().__init__(wrapped)
        self.negatives = texts_of(negatives)
        self.biases = [None] * len(self.negatives) if biases is None else list(biases)
        self.weights = [1.0] * len(self.negatives) if weights is None else [finite("a weight", w, 0) for w in weights]
        if not len(self.negatives) == len(self.biases) == len(self.weights):
            raise ValueError(
                f"{len(self.negatives)} negatives, {len(self.biases)} biases, {len(self.weights)} weights; give one each"
            )
        self.scale, self.tau = finite("scale", scale, 1), finite("tau", tau, 1)
        self.alpha = finite("alpha", alpha, 0, 1)
        self.rows = check_rows(rows)

    def act(self, attn: Any, named: dict[str, Any]) -> Any:
        if self.scale == 1 or self.alpha == 0 or not any(self.weights):
            return self.wrapped(attn, **named)
        projection = output_projection(attn)
        if named.get("encoder_hidden_states") is None or projection is None:
            raise Unsupported(
                "NAGAttnProcessor needs a layer that attends to text alone, with an output projection; this one is "
                f"{type(attn).__name__} without. Use negguide.attach(pipe, NAG(...)) where text and image share layers"
            )
        call = LayerCall((), named)

        def remember(*args: object, **kwargs: object) -> object:
            call.queries = attn.to_q(*args, **kwargs)
            return call.queries

        def guide(z: Tensor, *args: object, **kwargs: object) -> Any:
            call.heard = True
            return projection(self._guided(attn, call, z), *args, **kwargs)

        parts = {"to_q": remember, "to_out": behind_attention(attn, guide)}
        output = self.wrapped(stand_in(attn, parts), **named)
        if not call.heard:
            raise Unsupported(
                f"{type(self.wrapped).__name__} does not call the module's output projection, so NAG cannot reach what "
                "attention gives"
            )
        return output

    def _guided(self, attn: object, call: LayerCall, z: Tensor) -> Tensor:
        rows = guided_rows(self.rows, z.shape[0])
        z_pos = z[rows]
        alone = stand_in(attn, {"processor": self.wrapped})
        outputs = []
        for text, bias in zip(self.negatives, self.biases, strict=True):
            text = for_rows(text.to(z), z_pos.shape[0])
            bias = None if bias is None else for_rows(bias.to(z), z_pos.shape[0])
            outputs.append(attend(alone, call, text, rows, bias, projected=False))
        z_neg = maths.compose(outputs, self.weights, base=z_pos)
        guided = z.clone()
        guided[rows] = maths.nag(z_pos, z_neg, self.scale, self.tau, self.alpha).to(z.dtype)
        return guided


def wrap_nag(
    denoiser: torch.nn.Module,
    negatives: Sequence[Tensor],
    masks: Sequence[Tensor | None] | None = None,
    weights: Sequence[float] | None = None,
    scale: float = 3.0,
    tau: float = 2.5,
    alpha: float = 0.5,
    rows: Rows = "second half",
) -> list[str]:
    """Put `NAGAttnProcessor` around the processors of all layers that attend to text alone; the names of those layers.

    Args:
        denoiser: a UNet, PixArt, Sana, Wan, LTX ...; models whose text shares layers with the image raise `Unsupported`.
        negatives: text embeddings as the denoiser takes them in `encoder_hidden_states`, (1, L, C) or a row for each guided row.
        masks: for each its `encoder_attention_mask` (1, L) of ones and zeros, where the denoiser takes one; or None.
        weights, scale, tau, alpha, rows: see `NAGAttnProcessor`.
    """
    negatives = texts_of(negatives)
    masks = [None] * len(negatives) if masks is None else list(masks)
    with torch.no_grad():
        texts = [text_of_layers(denoiser, text, mask) for text, mask in zip(negatives, masks, strict=True)]
    layer_texts, biases = [text for text, _ in texts], [bias for _, bias in texts]

    def make(layer: Layer, present: object) -> WrappingProcessor | None:
        if layer.kind != "cross" or not layer.reads_any_text:
            return None
        return NAGAttnProcessor(present, layer_texts, biases, weights, scale, tau, alpha, rows)

    return wrap(denoiser, make)
