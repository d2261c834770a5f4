"""Noise that a scheduler draws in its steps: whose it is, when it is told, and how a seed becomes a picture again."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
from typing import Any

import diffusers
import families
import pytest
import torch
from torch import Tensor

from negguide.engine import attach
from negguide.methods import SPELL, Negative, PerpNeg

NEUTRAL = PerpNeg(Negative("cat", 0.0))


class Blind(diffusers.EulerDiscreteScheduler):
    """Adds noise of the process's own, and asks nobody for a generator."""

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor, return_dict: bool = True) -> Any:
        last = len(self.timesteps) - 1
        noise = torch.randn(sample.shape) * (0.3 if (self.step_index or 0) < last else 0.0)
        return super().step(model_output, timestep, sample + noise, return_dict=return_dict)


def drawing(name: str) -> Any:
    """A pipeline whose scheduler draws in its steps."""
    pipe = copy.copy(families.build("flux" if name == "flow" else "sd15"))
    config = pipe.scheduler.config
    if name == "flow":
        pipe.scheduler = diffusers.FlowMatchEulerDiscreteScheduler.from_config(config, stochastic_sampling=True)
    elif name == "blind":
        pipe.scheduler = Blind.from_config(config)
    elif name == "tree":
        pipe.scheduler = diffusers.DPMSolverSDEScheduler.from_config(config)
    else:
        pipe.scheduler = getattr(diffusers, name).from_config(config)
    return pipe


def run(name: str, pipe: Any, **more: Any) -> Tensor:
    return families.run("flux" if name == "flow" else "sd15", pipe, **more)


NO_TREES = pytest.mark.skipif(importlib.util.find_spec("torchsde") is None, reason="this scheduler needs torchsde")
TREE = pytest.param("tree", marks=NO_TREES)


@pytest.mark.parametrize("name", ["flow", "blind", TREE])
def test_a_neutral_run_draws_as_the_pipeline_does_and_says_so(name: str) -> None:
    pipe = drawing(name)
    torch.manual_seed(5)
    plain = run(name, pipe)
    with attach(pipe, NEUTRAL) as attached:
        torch.manual_seed(5)
        assert torch.equal(run(name, pipe), plain) and attached.unseeded
        assert not torch.equal(run(name, pipe), plain)


@pytest.mark.parametrize("name", ["flow", TREE])
def test_seeded_a_seed_is_a_picture_alone_and_in_a_batch(name: str) -> None:
    pipe = drawing(name)
    with attach(pipe, NEUTRAL, seeded=True) as attached:
        both = run(name, pipe, num_images_per_prompt=2)
        assert torch.equal(run(name, pipe, num_images_per_prompt=2), both)
        assert not attached.unseeded
        for seed in (0, 1):
            one = run(name, pipe, seed=seed)
            assert torch.allclose(one, both[seed : seed + 1], atol=1e-4)
    if name == "tree":
        assert pipe.scheduler.noise_sampler_seed is None
    assert not torch.equal(run(name, pipe, seed=0), one), "detached, it draws as ever"


def test_seeded_the_noise_is_the_generators_next() -> None:
    """As if the pipeline handed its generator on."""
    pipe = drawing("flow")
    generator = torch.Generator().manual_seed(0)

    class Handed(diffusers.FlowMatchEulerDiscreteScheduler):
        def step(self, *args: Any, **kwargs: Any) -> Any:
            return super().step(*args, **kwargs, generator=generator)

    other = copy.copy(pipe)
    other.scheduler = Handed.from_config(pipe.scheduler.config)
    expected = run("flow", other, generator=generator)
    with attach(pipe, NEUTRAL, seeded=True):
        assert torch.equal(run("flow", pipe), expected)


@pytest.mark.parametrize(
    "name", ["KDPM2AncestralDiscreteScheduler", "EulerAncestralDiscreteScheduler", "DDPMScheduler"]
)
def test_pipelines_that_hand_their_generator_on_are_as_ever(name: str) -> None:
    pipe = drawing(name)
    plain = run(name, pipe)
    for seeded in (False, True):
        with attach(pipe, NEUTRAL, seeded=seeded) as attached:
            assert torch.equal(run(name, pipe), plain) and not attached.unseeded


@dataclasses.dataclass
class Asked:
    steps: int = 3
    guidance_scale: float | None = 5.0
    size: tuple[int, int] | None = (32, 32)
    takeover: bool = False


def test_compare_and_batches_say_that_seeds_do_not_hold(recwarn: pytest.WarningsRecorder) -> None:
    from negguide.experiment.models import Model
    from negguide.experiment.sampling import make

    with pytest.warns(UserWarning, match="seeds do not hold: Blind"):
        make(Model("tiny", drawing("blind")), Asked(), "a pet", [NEUTRAL], [0, 1])
    recwarn.clear()
    first = make(Model("tiny", drawing("EulerAncestralDiscreteScheduler")), Asked(), "a pet", [], [0, 1]).images
    again = make(Model("tiny", drawing("EulerAncestralDiscreteScheduler")), Asked(), "a pet", [NEUTRAL], [0, 1]).images
    assert [a.tobytes() for a in first] == [b.tobytes() for b in again]
    assert not [one for one in recwarn if "seeds" in str(one.message)]


def test_repulsion_under_the_ancestral_kdpm2_is_finite() -> None:
    pipe = drawing("KDPM2AncestralDiscreteScheduler")
    with attach(pipe, SPELL(radius=50.0)) as attached:
        found = run("sd15", pipe, num_images_per_prompt=2, steps=5)
    assert found.isfinite().all()
    assert all(record.sigma > 0 for record in attached.trace)
    assert not torch.equal(found, run("sd15", pipe, num_images_per_prompt=2, steps=5)), "it acts"


def test_the_guard_looks_at_what_the_pipeline_gets() -> None:
    """At noise level 0 no prediction means another clean estimate: the estimate is finite, what goes back is not."""
    from test_engine_x0 import Aim

    pipe = families.build("sd3")
    with attach(pipe, Aim(0.5)):
        families.run("sd3", pipe, steps=2)
        with pytest.raises(FloatingPointError, match=r"Aim made NaN or infinity .* step 1"):
            pipe(**{**families.arguments("sd3"), "sigmas": [1.0, 0.0], "num_inference_steps": 2})
