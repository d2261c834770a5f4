"""Noise levels of a run, and the exact clean estimate x0 of a prediction, for every common scheduler.

A sample is x_t = a x0 + b eps. Schedulers differ in how they hold it: (a, b) = (sqrt(abar), sqrt(1 - abar)) for DDIM,
PNDM, DPM-Solver ("vp"); (1, sigma) for Euler, Heun, LMS ("scaled"); (1 - sigma, sigma) for flow matching ("flow").
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Form = Literal["vp", "scaled", "flow", "unknown"]


@dataclass(frozen=True)
class Schedule:
    """Timesteps and noise levels of the steps that a run makes; made once, as floats, so that no step syncs."""

    timesteps: tuple[float, ...]
    sigmas: tuple[float, ...]
    """k-diffusion sigma sqrt((1 - abar) / abar) for "vp" and "scaled"; flow sigma in [0, 1] for "flow"."""
    form: Form
    prediction: str
    name: str

    def coefficients(self, index: int) -> tuple[float, float]:
        """(a, b) of x_t = a x0 + b eps at a step."""
        sigma = self.sigmas[index]
        if self.form == "flow":
            return 1.0 - sigma, sigma
        if self.form == "scaled":
            return 1.0, sigma
        if self.form == "vp":
            return 1.0 / math.sqrt(1.0 + sigma**2), sigma / math.sqrt(1.0 + sigma**2)
        raise NotImplementedError(
            f"how {self.name} holds its samples is not known, so the clean estimate cannot be computed; "
            "use DDIM, PNDM, a DPM-Solver, UniPC, Euler, Heun, LMS, KDPM2 or a flow-matching scheduler"
        )

    def noised(self, x0: Tensor, noise: Tensor, index: int) -> Tensor:
        """The sample that holds clean latents and standard noise at a step; dtype of `x0`."""
        a, b = self.coefficients(index)
        return (a * _wide(x0) + b * _wide(noise)).to(x0.dtype)

    def model_input(self, sample: Tensor, index: int) -> Tensor:
        """A sample as the denoiser gets it: schedulers that hold x0 + sigma eps bring it to unit variance."""
        return sample / math.sqrt(1.0 + self.sigmas[index] ** 2) if self.form == "scaled" else sample

    def to_denoised(self, prediction: Tensor, sample: Tensor, index: int, sign: float = 1.0) -> Tensor:
        """Clean estimate x0 of a prediction made at `sample`; at least float32. `sign`: the pipeline's own flip."""
        offset, factor = self._affine(sample, index)
        return offset + (sign * factor) * _wide(prediction)

    def from_denoised(self, x0: Tensor, sample: Tensor, index: int, sign: float = 1.0) -> Tensor:
        """The prediction that means `x0` at `sample`; the inverse of `to_denoised`."""
        offset, factor = self._affine(sample, index)
        return (_wide(x0) - offset) / (sign * factor)

    def _affine(self, sample: Tensor, index: int) -> tuple[Tensor, float]:
        """x0 = offset + factor * prediction."""
        a, b = self.coefficients(index)
        sample = _wide(sample)
        if self.prediction == "sample":
            return torch.zeros_like(sample), 1.0
        if self.prediction == "flow":
            return sample, -self.sigmas[index]
        if self.prediction == "v_prediction":
            # v = alpha eps - s x0 is stated for the unit-variance sample: bring x_t there first.
            length = math.hypot(a, b)
            alpha, s = a / length, b / length
            return (alpha / length) * sample, -s
        return sample / a, -b / a


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def read_schedule(scheduler: Any, first_timestep: float, count: int | None) -> Schedule:
    """The schedule of a run that starts at `first_timestep`, from a scheduler after `set_timesteps`.

    `count`: number of denoiser calls of the run where the pipeline says it; else all steps from the first one on.
    """
    name = type(scheduler).__name__
    times = [float(t) for t in torch.as_tensor(scheduler.timesteps).tolist()]
    start = getattr(scheduler, "_begin_index", None)
    if start is None or start >= len(times) or times[start] != first_timestep:
        start = times.index(first_timestep) if first_timestep in times else 0
    count = count if count and start + count <= len(times) else len(times) - start
    kept = tuple(times[start : start + count])
    config = scheduler.config
    prediction = str(config.get("prediction_type", "epsilon"))
    flow = name.startswith("Flow") or prediction == "flow_prediction" or bool(config.get("use_flow_sigmas", False))
    sigmas = _sigmas(scheduler, kept, start)
    form: Form = "unknown" if sigmas is None or hasattr(scheduler, "precondition_outputs") else "vp"
    if flow:
        form, prediction = "flow", "flow" if name.startswith("Flow") else prediction
    elif form == "vp" and _scales_its_input(scheduler, first_timestep):
        form = "scaled"
    prediction = "flow" if prediction == "flow_prediction" else prediction
    return Schedule(kept, sigmas or tuple(0.0 for _ in kept), form, prediction, name)


def _sigmas(scheduler: Any, timesteps: tuple[float, ...], start: int) -> tuple[float, ...] | None:
    levels = getattr(scheduler, "sigmas", None)
    if levels is not None and len(levels) >= start + len(timesteps):
        between = getattr(scheduler, "sigmas_interpol", None)
        steps = range(start, start + len(timesteps))
        if between is None:
            return tuple(float(levels[k]) for k in steps)
        # KDPM2 evaluates every second time half-way between two levels.
        return tuple(float(levels[k] if (k - start) % 2 == 0 else between[k]) for k in steps)
    abars = getattr(scheduler, "alphas_cumprod", None)
    if abars is None:
        return None
    kept = (float(abars[min(max(int(t), 0), len(abars) - 1)]) for t in timesteps)
    return tuple(math.sqrt((1 - abar) / max(abar, 1e-12)) for abar in kept)


def _scales_its_input(scheduler: Any, timestep: float) -> bool:
    """Schedulers that hold x0 + sigma eps divide by sqrt(1 + sigma^2) before the model; the others hand x_t on."""
    if not hasattr(scheduler, "scale_model_input"):
        return False
    given = scheduler.timesteps[0].dtype
    one = torch.ones(1, device=scheduler.timesteps.device)
    time = torch.tensor(timestep, dtype=given, device=one.device)
    return bool((scheduler.scale_model_input(one, time) != 1.0).any())
