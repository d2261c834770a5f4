"""Windows of a base and its refiner, which share one schedule: fractions of it count the steps of both."""

from __future__ import annotations

import copy
from typing import Any

import families
import pytest
import torch

from negguide.engine import attach
from negguide.methods import Interval, Method, Negative, PerpNeg, Window


@pytest.fixture(scope="module")
def refiner() -> Any:
    from diffusers import StableDiffusionXLImg2ImgPipeline

    base = families.build("sdxl")
    parts = {**base.components, "scheduler": copy.deepcopy(base.scheduler)}
    pipe = StableDiffusionXLImg2ImgPipeline(**parts, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def refined(pipe: Any, latents: torch.Tensor, **more: Any) -> torch.Tensor:
    arguments = families.arguments("sdxl", steps=10, image=latents, **more)
    return pipe(**{name: value for name, value in arguments.items() if name not in ("height", "width")}).images


def opened(attached: Any, offset: int = 0) -> list[int]:
    return [offset + at for at, record in enumerate(attached.trace) if record.conditions]


@pytest.mark.parametrize(
    ("window", "steps"),
    [((0.0, 0.4), [0, 1, 2, 3]), ((0.5, 0.9), [5, 6, 7, 8]), ((0.8, 1.0), [8, 9])],
    ids=str,
)
def test_a_window_means_the_whole_schedule(refiner: Any, window: tuple[float, float], steps: list[int]) -> None:
    base = families.build("sdxl")
    plain = families.run("sdxl", steps=10, denoising_end=0.8)
    method = PerpNeg(Negative("cat", window=window))
    with attach(base, method) as attached:
        latents = families.run("sdxl", steps=10, denoising_end=0.8)
    seen = opened(attached)
    assert len(attached.trace) == 8
    with attach(refiner, method) as attached:
        picture = refined(refiner, latents, denoising_start=0.8)
    assert len(attached.trace) == 2
    assert seen + opened(attached, offset=8) == steps
    assert torch.equal(latents, plain) == (steps[0] >= 8)
    assert torch.equal(picture, refined(refiner, latents, denoising_start=0.8)) == (steps[-1] < 8)


def test_both_parts_together_are_the_one_run(refiner: Any) -> None:
    """The same window by noise levels, which need no counting, and the interval, which is a window of guidance itself."""
    base = families.build("sdxl")
    with attach(base, Interval(Window(0.3, 0.9))) as attached:
        families.run("sdxl", steps=10)
        whole = [record.passes for record in attached.trace]
        families.run("sdxl", steps=10, denoising_end=0.6)
        parts = [record.passes for record in attached.trace]
    with attach(refiner, Interval(Window(0.3, 0.9))) as attached:
        refined(refiner, families.run("sdxl", steps=10, denoising_end=0.6), denoising_start=0.6)
    assert parts + [record.passes for record in attached.trace] == whole


def test_without_a_share_a_run_is_the_whole(refiner: Any) -> None:
    """A strength alone shortens the run, and the window with it."""
    method: Method = PerpNeg(Negative("cat", window=(0.0, 0.5)))
    with attach(refiner, method) as attached:
        refined(refiner, families.run("sdxl", steps=10), strength=0.4)
    assert len(attached.trace) == 4 and opened(attached) == [0, 1]
