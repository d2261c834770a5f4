"""Noise levels of a run, and the exact clean estimate x0 of a prediction, for every common scheduler.

A sample is x_t = a x0 + b eps. Schedulers differ in how they hold it: (a, b) = (sqrt(abar), sqrt(1 - abar)) for DDIM,
PNDM, DPM-Solver ("vp"); (1, sigma) for Euler, Heun, LMS ("scaled") and for those of EDM, whose model output is mixed with
the sample ("edm", arXiv:2206.00364, table 1); (1 - sigma, sigma) for flow matching ("flow").
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from negguide import maths

Form = Literal["vp", "scaled", "edm", "flow", "unknown"]

_FLOW = ("FlowMatch", "FlowMap", "LTXEulerAncestralRF")
"""Starts of the names of schedulers that hold (1 - sigma) x0 + sigma eps and say so nowhere else."""


@dataclass(frozen=True)
class Schedule:
    """Timesteps and noise levels of the steps that a run makes; made once, as floats, so that no step syncs."""

    timesteps: tuple[float, ...]
    sigmas: tuple[float, ...]
    """k-diffusion sigma sqrt((1 - abar) / abar) for "vp", "scaled" and "edm"; flow sigma in [0, 1] for "flow"."""
    form: Form
    prediction: str
    name: str
    before: int = 0
    whole: int = 0
    """Of a run that is a part of a schedule shared with other pipelines: the steps before it, and all steps; else 0."""
    sigma_data: float = 1.0
    """Standard deviation of the data, for "edm"."""
    clean_at_one: bool = False
    """Whether a flow model counts the other way round: from 0 (noise) to 1 (clean)."""

    def coefficients(self, index: int) -> tuple[float, float]:
        """(a, b) of x_t = a x0 + b eps at a step."""
        sigma = self.sigmas[index]
        if self.form == "flow":
            return 1.0 - sigma, sigma
        if self.form in ("scaled", "edm"):
            return 1.0, sigma
        if self.form == "vp":
            return 1.0 / math.sqrt(1.0 + sigma**2), sigma / math.sqrt(1.0 + sigma**2)
        raise NotImplementedError(
            f"how {self.name} holds its samples is not known, so the clean estimate cannot be computed; "
            "use DDIM, PNDM, a DPM-Solver, UniPC, Euler, Heun, LMS, KDPM2, EDM or a flow-matching scheduler"
        )

    def noised(self, x0: Tensor, noise: Tensor, index: int) -> Tensor:
        """The sample that holds clean latents and standard noise at a step; dtype of `x0`."""
        a, b = self.coefficients(index)
        return (a * maths.widen(x0) + b * maths.widen(noise)).to(x0.dtype)

    def model_input(self, sample: Tensor, index: int) -> Tensor:
        """A sample as the denoiser gets it: schedulers that hold x0 + sigma eps bring it to unit variance."""
        length = self._input_length(index)
        return sample if length is None else sample / length

    def held(self, model_input: Tensor, index: int) -> Tensor:
        """The sample as the scheduler holds it, of what the denoiser got; the inverse of `model_input`."""
        length = self._input_length(index)
        return model_input if length is None else model_input * length

    def _input_length(self, index: int) -> float | None:
        data = {"scaled": 1.0, "edm": self.sigma_data}.get(self.form)
        return None if data is None else math.hypot(data, self.sigmas[index])

    def to_denoised(self, prediction: Tensor, sample: Tensor, index: int, sign: float = 1.0) -> Tensor:
        """Clean estimate x0 of a prediction made at `sample`; at least float32. `sign`: the pipeline's own flip."""
        offset, factor = self._affine(sample, index)
        return offset + (sign * factor) * maths.widen(prediction)

    def from_denoised(self, x0: Tensor, sample: Tensor, index: int, sign: float = 1.0) -> Tensor:
        """The prediction that means `x0` at `sample`; the inverse of `to_denoised`."""
        offset, factor = self._affine(sample, index)
        return (maths.widen(x0) - offset) / (sign * factor)

    def _affine(self, sample: Tensor, index: int) -> tuple[Tensor, float]:
        """x0 = offset + factor * prediction."""
        a, b = self.coefficients(index)
        sample = maths.widen(sample)
        if self.form == "edm":
            data, length = self.sigma_data, math.hypot(self.sigmas[index], self.sigma_data)
            out = b * data / length
            return (data / length) ** 2 * sample, -out if self.prediction == "v_prediction" else out
        if self.prediction == "sample":
            return torch.zeros_like(sample), 1.0
        if self.prediction == "flow":
            return sample, b if self.clean_at_one else -b
        if self.prediction == "v_prediction":
            # v = alpha eps - s x0 is stated for the unit-variance sample: bring x_t there first.
            length = math.hypot(a, b)
            alpha, s = a / length, b / length
            return (alpha / length) * sample, -s
        return sample / a, -b / a


def read_schedule(scheduler: Any, first_timestep: float, count: int | None, part: bool = False) -> Schedule:
    """The schedule of a run that starts at `first_timestep`, from a scheduler after `set_timesteps`, which stays as it is.

    `count`: number of denoiser calls of the run where the pipeline says it; else all steps from the first one on.
    `part`: other pipelines run the rest of this schedule, so that fractions of it count all its steps.
    """
    name = type(scheduler).__name__
    times = [float(t) for t in torch.as_tensor(scheduler.timesteps).tolist()]
    start = _start(scheduler, times, first_timestep, count)
    count = count if count and start + count <= len(times) else len(times) - start
    kept = tuple(times[start : start + count])
    config = scheduler.config
    prediction = str(config.get("prediction_type", "epsilon"))
    prediction = {"flow_prediction": "flow", "original_sample": "sample"}.get(prediction, prediction)
    sigmas = _sigmas(scheduler, kept, start)
    form = _form(scheduler, name, prediction, sigmas, start)
    reversed_flow = form == "flow" and bool(config.get("invert_sigmas", False))
    if reversed_flow and sigmas is not None:
        sigmas = tuple(1.0 - sigma for sigma in sigmas)
    return Schedule(
        timesteps=kept,
        sigmas=sigmas or tuple(0.0 for _ in kept),
        form=form,
        prediction="flow" if name.startswith(_FLOW) else prediction,
        name=name,
        before=start if part else 0,
        whole=len(times) if part else 0,
        sigma_data=float(config.get("sigma_data") or 1.0),
        clean_at_one=reversed_flow,
    )


def is_part(arguments: Mapping[str, object]) -> bool:
    """Whether the arguments of a call leave a part of its schedule to another pipeline (a base and its refiner)."""
    return any(arguments.get(name) is not None for name in ("denoising_end", "denoising_start"))


def _start(scheduler: Any, times: list[float], first: float, count: int | None) -> int:
    """Index of the first step. Two-call schedulers, PNDM and rounded timesteps hold the same time more than once."""
    for name in ("_step_index", "_begin_index"):
        start = getattr(scheduler, name, None)
        if start is not None and start < len(times) and times[start] == first:
            return int(start)
    places = [at for at, time in enumerate(times) if time == first]
    if not places:
        return 0
    if len(places) > 1 and hasattr(scheduler, "index_for_timestep"):
        time = torch.as_tensor(scheduler.timesteps)[places[0]]
        return int(scheduler.index_for_timestep(time))
    return next((at for at in places if count and at + count == len(times)), places[0])


def _form(scheduler: Any, name: str, prediction: str, sigmas: tuple[float, ...] | None, start: int) -> Form:
    """How a scheduler holds its samples; "unknown" where neither its own words nor its scaling of the input tell."""
    if sigmas is None:
        return "unknown"
    if name.startswith(_FLOW) or prediction == "flow" or scheduler.config.get("use_flow_sigmas", False):
        return "flow"
    if hasattr(scheduler, "precondition_outputs") and scheduler.config.get("sigma_data"):
        return "edm" if prediction in ("epsilon", "v_prediction") else "unknown"
    if getattr(scheduler, "alphas_cumprod", None) is None:
        return "unknown"
    ratio = _input_scale(scheduler, start)
    if ratio == 1.0:
        return "vp"
    return "scaled" if math.isclose(ratio, 1.0 / math.hypot(1.0, sigmas[0]), rel_tol=1e-3) else "unknown"


def _sigmas(scheduler: object, timesteps: tuple[float, ...], start: int) -> tuple[float, ...] | None:
    levels = getattr(scheduler, "sigmas", None)
    steps = range(start, start + len(timesteps))
    if levels is not None and len(levels) >= steps.stop:
        between = getattr(scheduler, "sigmas_interpol", None)
        numbers = [float(level) for level in levels]
        if between is not None:
            # KDPM2 evaluates every second time between two levels; its ancestral kind lists that place one step earlier.
            earlier = 1 if hasattr(scheduler, "sigmas_down") else 0
            return tuple(numbers[k] if (k - start) % 2 == 0 else float(between[k - earlier]) for k in steps)
        if hasattr(scheduler, "mid_point_sigma"):
            # DPM-Solver++ SDE: half-way in log sigma.
            return tuple(numbers[k] if (k - start) % 2 == 0 else math.sqrt(numbers[k - 1] * numbers[k]) for k in steps)
        return tuple(numbers[k] for k in steps)
    abars = getattr(scheduler, "alphas_cumprod", None)
    if abars is None:
        return None
    kept = (float(abars[min(max(int(t), 0), len(abars) - 1)]) for t in timesteps)
    return tuple(math.sqrt((1 - abar) / max(abar, 1e-12)) for abar in kept)


def _input_scale(scheduler: Any, start: int) -> float:
    """Schedulers that hold x0 + sigma eps divide by sqrt(1 + sigma^2) before the model; the others hand x_t on."""
    if not hasattr(scheduler, "scale_model_input"):
        return 1.0
    asked = copy.copy(scheduler)
    if getattr(asked, "_step_index", start) is None:
        asked._step_index = start
    times = torch.as_tensor(scheduler.timesteps)
    return float(asked.scale_model_input(torch.ones(1, device=times.device), times[start]))
