"""Where ComfyUI's sampling stands, as a `Step` of negguide: predictions are made of the clean estimates that hooks see."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from negguide.methods.base import Step

if TYPE_CHECKING:
    from torch import Tensor

    from negguide.methods.mask import Mask


def position(sigma: float, sigmas: Tensor | None) -> tuple[int, int]:
    """Index of the step that a noise level belongs to, and the number of steps; (0, 1) where the levels are not known.

    Samplers that look between two levels (Heun, DPM++) are still in the step that began at the higher one.
    """
    if sigmas is None or len(sigmas) < 2:
        return 0, 1
    count = len(sigmas) - 1
    passed = int((sigmas[:count] >= sigma * (1 - 1e-5)).sum())
    return max(0, passed - 1), count


def step_at(sample: Tensor, sigma: Tensor, options: dict[str, Any], model_sampling: Any = None) -> Step:
    """The step of a hook: `sample` x (B, ...), `sigma` (B,), `options` the transformer options of the run."""
    level = float(sigma.flatten()[0])
    index, count = position(level, options.get("sample_sigmas"))
    kind, to_denoised, from_denoised = _prediction(sample, level, model_sampling)

    def resize_mask(mask: Mask) -> Tensor:
        height, width = sample.shape[-2:]
        return mask.tensor(height, width).to(sample.device).view(*(1,) * (sample.ndim - 2), height, width)

    return Step(index, count, level, level, sample, kind, to_denoised, from_denoised, resize_mask)


def _prediction(
    x: Tensor, sigma: float, model_sampling: Any
) -> tuple[str, Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """What the model predicts, and the way from it to the clean estimate and back.

    ComfyUI's x is `x0 + sigma noise`, of flow models `(1 - sigma) x0 + sigma noise`: in both, `x0 = x - sigma p`, with p
    the noise or the velocity. The v of a v-prediction model is that of the x of unit variance.
    """
    names = {kind.__name__ for kind in type(model_sampling).__mro__}
    if "V_PREDICTION" in names:
        data = float(getattr(model_sampling, "sigma_data", 1.0))
        length = math.hypot(sigma, data)
        share, slope = (data / length) ** 2, sigma * data / length
        return "v_prediction", lambda v: x * share - v * slope, lambda x0: (x * share - x0) / slope
    kind = "flow_prediction" if "CONST" in names else "epsilon"
    return kind, lambda p: x - sigma * p, lambda x0: (x - x0) / sigma
