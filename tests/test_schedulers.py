"""Noise levels and clean estimates at every call of every scheduler, beside what the scheduler itself makes of the call."""

from __future__ import annotations

import copy
import importlib.util
import math
from typing import Any

import diffusers
import families
import pytest
import torch
from test_engine_x0 import Aim, aimed
from torch import Tensor

from negguide.engine import attach
from negguide.pipeline.schedule import read_schedule

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
V = {"prediction_type": "v_prediction"}
KARRAS = {"use_karras_sigmas": True}
FLOWING = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
SDE = {"algorithm_type": "sde-dpmsolver++"}

BY_ABAR: list[tuple[str, dict[str, Any]]] = [
    ("DDIM", {"clip_sample": False}),
    ("DDIM", {"clip_sample": False, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing", **V}),
    ("DDIMParallel", {"clip_sample": False}),
    ("DDPM", {"clip_sample": False}),
    ("DDPMParallel", {"clip_sample": False, **V}),
    ("PNDM", {"skip_prk_steps": True}),
    ("PNDM", {"skip_prk_steps": False}),
    ("LCM", {}),
    ("TCD", {}),
    ("CogVideoXDDIM", {**V, "rescale_betas_zero_snr": True}),
]
BY_ORIGINAL: list[tuple[str, dict[str, Any]]] = [
    (name, config)
    for name in ("EulerDiscrete", "HeunDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete")
    for config in ({}, V, KARRAS, {"use_exponential_sigmas": True}, {"timestep_spacing": "trailing"})
]
BY_ORIGINAL += [
    ("EulerDiscrete", {"timestep_type": "continuous", **V}),
    ("EulerDiscrete", {"prediction_type": "original_sample"}),
    ("EulerDiscrete", {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", **V}),
    ("HeunDiscrete", {"prediction_type": "sample"}),
    ("EulerAncestralDiscrete", {}),
    ("EulerAncestralDiscrete", V),
    ("LMSDiscrete", {}),
    ("LMSDiscrete", KARRAS),
    ("EDMEuler", {}),
    ("EDMEuler", {"sigma_data": 1.0, "final_sigmas_type": "sigma_min", **V}),
]
NEEDS_SDE: list[tuple[str, dict[str, Any]]] = [
    ("DPMSolverSDE", {}),
    ("DPMSolverSDE", {**V, **KARRAS}),
    ("CosineDPMSolverMultistep", {}),
]
BY_CONVERSION: list[tuple[str, dict[str, Any]]] = [
    (name, config)
    for name in ("DPMSolverMultistep", "DPMSolverSinglestep", "UniPCMultistep")
    for config in ({}, V, KARRAS, FLOWING, {"use_exponential_sigmas": True})
]
BY_CONVERSION += [
    ("DPMSolverMultistep", SDE),
    ("DPMSolverMultistep", {"euler_at_final": True, "use_lu_lambdas": True}),
    ("DPMSolverMultistep", {"prediction_type": "sample"}),
    ("SASolver", {}),
    ("SASolver", V),
    ("EDMDPMSolverMultistep", {}),
    ("EDMDPMSolverMultistep", {"sigma_data": 1.0, **V}),
]
ON_A_LINE: list[tuple[str, dict[str, Any]]] = [
    ("FlowMatchEulerDiscrete", {}),
    ("FlowMatchEulerDiscrete", {"shift": 3.0, **KARRAS}),
    ("FlowMatchEulerDiscrete", {"invert_sigmas": True}),
    ("FlowMatchHeunDiscrete", {"shift": 3.0}),
    ("LTXEulerAncestralRF", {"eta": 0.0}),
    ("DPMSolverMultistep", FLOWING),
    ("UniPCMultistep", FLOWING),
    ("DEISMultistep", {}),
    ("DEISMultistep", KARRAS),
    ("DEISMultistep", FLOWING),
]


def label(value: Any) -> str:
    return value if isinstance(value, str) else "-".join(map(str, value.values()))


def scheduler_of(name: str, config: dict[str, Any]) -> Any:
    own = {} if name.startswith(("FlowMatch", "EDM", "Cosine", "LTX", "CogVideoX")) else BETAS
    return getattr(diffusers, f"{name}Scheduler")(**{**own, **config})


def ready(name: str, config: dict[str, Any], start: int = 0, steps: int = 7) -> tuple[Any, Any, list[Tensor]]:
    """A scheduler before its first call, its schedule as read then, and its timesteps from `start` on."""
    scheduler = scheduler_of(name, config)
    scheduler.set_timesteps(steps, device="cpu")
    times = list(scheduler.timesteps[start:])
    if start and hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(start)
    return scheduler, read_schedule(scheduler, float(times[0]), len(times)), times


def sample_of(seed: int) -> Tensor:
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(found: Tensor, expected: Tensor) -> bool:
    return float((found - expected).abs().max()) <= 1e-4 * max(1.0, float(expected.abs().max()))


def step(scheduler: Any, prediction: Tensor, t: Tensor, sample: Tensor) -> Any:
    return scheduler.step(prediction, t, sample)


@pytest.mark.parametrize("start", [0, 2])
@pytest.mark.parametrize(("name", "config"), BY_ORIGINAL, ids=label)
def test_x0_is_the_schedulers_own_at_every_call(name: str, config: dict[str, Any], start: int) -> None:
    check_original(name, config, start)


@pytest.mark.skipif(importlib.util.find_spec("torchsde") is None, reason="these schedulers need torchsde")
@pytest.mark.parametrize("start", [0, 2])
@pytest.mark.parametrize(("name", "config"), NEEDS_SDE, ids=label)
def test_x0_is_the_schedulers_own_where_noise_comes_from_a_tree(name: str, config: dict[str, Any], start: int) -> None:
    (check_original if name == "DPMSolverSDE" else check_conversion)(name, config, start)


def check_original(name: str, config: dict[str, Any], start: int) -> None:
    scheduler, schedule, times = ready(name, config, start)
    assert len(schedule.timesteps) == len(times)
    sample = sample_of(1) * float(scheduler.init_noise_sigma)
    for k, t in enumerate(times):
        shown = scheduler.scale_model_input(sample, t)
        assert close(schedule.model_input(sample, k), shown), k
        prediction = 0.3 * shown.sin() + sample_of(k + 2)
        output = step(scheduler, prediction, t, sample)
        x0 = schedule.to_denoised(prediction, sample, k)
        assert close(x0, output.pred_original_sample), (k, schedule.sigmas[k])
        assert close(schedule.from_denoised(x0, sample, k), prediction) or schedule.sigmas[k] > 1e3
        sample = output.prev_sample


@pytest.mark.parametrize("start", [0, 2])
@pytest.mark.parametrize(("name", "config"), BY_CONVERSION, ids=label)
def test_x0_is_what_the_scheduler_converts_the_output_to(name: str, config: dict[str, Any], start: int) -> None:
    check_conversion(name, config, start)


def check_conversion(name: str, config: dict[str, Any], start: int) -> None:
    scheduler, schedule, times = ready(name, config, start)
    converted: list[Tensor] = []
    convert = scheduler.convert_model_output

    def remember(*args: Any, **kwargs: Any) -> Any:
        converted.append(convert(*args, **kwargs))
        return converted[-1]

    scheduler.convert_model_output = remember
    sample = sample_of(1) * float(scheduler.init_noise_sigma)
    for k, t in enumerate(times):
        shown = scheduler.scale_model_input(sample, t)
        assert close(schedule.model_input(sample, k), shown), k
        prediction = 0.3 * shown.sin() + sample_of(k + 2)
        after = step(scheduler, prediction, t, sample).prev_sample
        assert len(converted) == k + 1 and close(schedule.to_denoised(prediction, sample, k), converted[k]), k
        sample = after


@pytest.mark.parametrize("start", [0, 2])
@pytest.mark.parametrize(("name", "config"), BY_ABAR, ids=label)
def test_x0_follows_from_the_products_of_alphas(name: str, config: dict[str, Any], start: int) -> None:
    scheduler, schedule, times = ready(name, config, start)
    assert [float(t) for t in times] == list(schedule.timesteps)
    for k, t in enumerate(times):
        abar = float(scheduler.alphas_cumprod[int(t)])
        sample, prediction = sample_of(1), sample_of(k + 2)
        a, b = math.sqrt(abar), math.sqrt(1 - abar)
        expected = a * sample - b * prediction if config.get("prediction_type") else (sample - b * prediction) / a
        if abar > 0 or config.get("prediction_type"):
            assert close(schedule.to_denoised(prediction, sample, k), expected), k


@pytest.mark.parametrize(("name", "config"), ON_A_LINE, ids=label)
def test_a_perfect_model_stays_on_the_way_from_noise_to_its_x0(name: str, config: dict[str, Any]) -> None:
    """Where clean latents and noise are the same at every call, a solver's samples are a x0 + b eps, whatever its order."""
    scheduler, schedule, times = ready(name, config)
    x0, noise = sample_of(1).float(), sample_of(2).float()
    sample = schedule.noised(x0, noise, 0)
    flow = schedule.form == "flow"
    for k, t in enumerate(times):
        assert torch.allclose(sample, schedule.noised(x0, noise, k), atol=2e-3 * (1 + schedule.sigmas[k])), k
        prediction = (noise - x0) * (-1.0 if config.get("invert_sigmas") else 1.0) if flow else noise
        assert torch.allclose(schedule.to_denoised(prediction, sample, k), x0, atol=5e-3 * (1 + schedule.sigmas[k])), k
        sample = step(scheduler, prediction, t, sample).prev_sample
    if name != "DEISMultistep":  # whose last step stops short of zero noise
        assert torch.allclose(sample, x0, atol=5e-2)


def test_a_time_that_comes_twice_is_found_at_its_place() -> None:
    scheduler = scheduler_of("PNDM", {"skip_prk_steps": True})
    scheduler.set_timesteps(10)
    times = [float(t) for t in scheduler.timesteps]
    assert times[1] == times[2]
    for start in (1, 2):
        schedule = read_schedule(scheduler, times[start], len(times) - start)
        assert list(schedule.timesteps) == times[start:]


@pytest.mark.parametrize(("name", "config"), [("SCM", {}), ("CMStochasticIterative", {}), ("IPNDM", {})], ids=label)
def test_other_forms_are_refused_by_name(name: str, config: dict[str, Any]) -> None:
    scheduler = getattr(diffusers, f"{name}Scheduler")(**config)
    scheduler.set_timesteps(num_inference_steps=2)
    schedule = read_schedule(scheduler, float(scheduler.timesteps[0]), None)
    with pytest.raises(NotImplementedError, match=name):
        schedule.to_denoised(torch.zeros(1), torch.zeros(1), 0)


def test_reading_leaves_the_scheduler_as_it_was() -> None:
    for name in ("EulerDiscrete", "HeunDiscrete", "KDPM2AncestralDiscrete", "UniPCMultistep"):
        scheduler = scheduler_of(name, {})
        scheduler.set_timesteps(5)
        before = {key: value for key, value in vars(scheduler).items() if not isinstance(value, (Tensor, list))}
        read_schedule(scheduler, float(scheduler.timesteps[0]), None)
        assert {key: vars(scheduler)[key] for key in before} == before


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("KDPM2AncestralDiscrete", {}),
        ("KDPM2Discrete", V),
        ("HeunDiscrete", KARRAS),
        ("EDMDPMSolverMultistep", {}),
    ],
    ids=label,
)
def test_what_x0_is_set_to_comes_out_of_a_pipeline(name: str, config: dict[str, Any]) -> None:
    pipe = copy.copy(families.build("sd15"))
    pipe.scheduler = scheduler_of(name, config)
    with attach(pipe, Aim(0.5)) as attached:
        found = families.run("sd15", pipe, steps=4)
    assert torch.allclose(found, aimed(found, 0.5), atol=5e-3)
    assert all(record.sigma > 0 for record in attached.trace)
