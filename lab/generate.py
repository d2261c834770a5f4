"""Generate many small pictures with an ordinary pipeline call, each from its own seed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from negguide.toybox.load import PIPELINES

if TYPE_CHECKING:
    from negguide.methods.base import Method
    from negguide.types import Pipeline

STEPS, GUIDANCE_SCALE = PIPELINES["sd"].steps, PIPELINES["sd"].guidance_scale
"""Default of the Toybox: every figure in the model cards and the bench uses it unless it says otherwise."""


def generate(
    pipe: Pipeline,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *methods: Method,
    steps: int = STEPS,
    guidance_scale: float = GUIDANCE_SCALE,
    batch: int = 32,
    **call: Any,
) -> np.ndarray:
    """Picture i from `prompts[i]` and `seeds[i]`, under the given methods; (N, H, W, 3) uint8.

    A seed determines its starting noise whatever the batch size.
    """
    from negguide.engine import attach

    parts = []
    with ExitStack() as stack:
        if methods:
            stack.enter_context(attach(pipe, *methods))
        for start in range(0, len(prompts), batch):
            generators = [torch.Generator().manual_seed(seed) for seed in seeds[start : start + batch]]
            pictures = pipe(
                list(prompts[start : start + batch]),
                num_inference_steps=steps,
                guidance_scale=guidance_scale,
                generator=generators,
                output_type="np",
                **call,
            ).images
            parts.append((pictures * 255).round().astype(np.uint8))
    return np.concatenate(parts)
