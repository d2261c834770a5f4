"""Guiders that follow the clean estimate, in modular pipelines of the real classes: the pictures of the attached method."""

from __future__ import annotations

import copy
import gc
from pathlib import Path
from typing import Any

import diffusers
import families
import pytest
import torch

modular_pipelines = pytest.importorskip("diffusers.modular_pipelines")
if not hasattr(modular_pipelines, "Krea2AutoBlocks"):
    pytest.skip(f"modular pipelines of diffusers {diffusers.__version__} are others", allow_module_level=True)

from modular import modular, run, scale, text_options  # noqa: E402

from negguide.engine import attach  # noqa: E402
from negguide.guiders import DynamicNegativeGuidance  # noqa: E402
from negguide.methods import DynamicNegative, Negative, Window  # noqa: E402

TWO = ["cat", Negative("hat", 0.5, Window(0, 0.7))]
DYNAMIC = {"prior": 0.3, "temperature": 5.0}


def hooks(pipe: Any) -> int:
    denoiser = getattr(pipe, "transformer", None) or pipe.unet
    return len(denoiser._forward_pre_hooks) + len(denoiser._forward_hooks)


@pytest.mark.parametrize("name", ["sdxl", "sd3", "wan", "zimage", "klein", "ltx", "qwen", "krea2", "hunyuan_video_15"])
def test_dynamic_equals_the_attached_method_in_every_run(name: str) -> None:
    pipe = modular(name)
    plain = run(name, pipe)
    with attach(pipe, DynamicNegative(TWO, **DYNAMIC)):
        expected = run(name, pipe)
    guider = DynamicNegativeGuidance(TWO, scale(name), **DYNAMIC).encode(pipe, **text_options(name))
    frozen = DynamicNegativeGuidance(TWO, scale(name), 0.3, 0.0).encode(pipe, **text_options(name))
    pipe.update_components(guider=frozen)
    bound = 0.02 * float((run(name, pipe) - expected).abs().max())
    assert bound > 0, "the evidence of the steps matters here"
    pipe.update_components(guider=guider)
    first, second = run(name, pipe), run(name, pipe)
    assert torch.equal(first, second), "nothing is left of a run"
    change = float((expected - plain).abs().max())
    assert float((first - expected).abs().max()) < min(1e-4, 0.05 * change, bound)
    assert hooks(pipe) == 0


@pytest.mark.parametrize("name", ["hunyuan_image", "hunyuan_video_15", "motif_video"])
def test_dynamic_in_pipeline_classes_that_own_a_guider(name: str) -> None:
    pipe = copy.copy(families.build(name))
    pipe.guider = diffusers.ClassifierFreeGuidance(5.0)
    plain = families.run(name, pipe)
    with attach(pipe, DynamicNegative(TWO, **DYNAMIC)):
        expected = families.run(name, pipe)
    pipe.guider = DynamicNegativeGuidance(TWO, 5.0, **DYNAMIC).encode(pipe)
    change = float((expected - plain).abs().max())
    for _ in range(2):
        assert float((families.run(name, pipe) - expected).abs().max()) < min(1e-4, 0.05 * change)


def test_each_image_has_its_own_posterior() -> None:
    call = {"prompt": ["a pet on grass", "a tree"]}
    pipe = modular("sdxl")
    with attach(pipe, DynamicNegative(TWO, **DYNAMIC)):
        expected = run("sdxl", pipe, **call)
    pipe.update_components(guider=DynamicNegativeGuidance(TWO, 5.0, **DYNAMIC).encode(pipe))
    assert float((run("sdxl", pipe, **call) - expected).abs().max()) < 1e-4


def test_saved_loaded_copied_and_neutral(tmp_path: Path) -> None:
    pipe = modular("sdxl")
    plain = run("sdxl", pipe)
    guider = DynamicNegativeGuidance(TWO, 5.0, **DYNAMIC).encode(pipe)
    pipe.update_components(guider=guider)
    expected = run("sdxl", pipe)
    guider.save_pretrained(str(tmp_path))
    again = DynamicNegativeGuidance.from_pretrained(str(tmp_path))
    assert again.method == guider.method
    pipe.update_components(guider=again)
    with pytest.raises(RuntimeError, match=r"call guider\.encode\(pipe\)"):
        run("sdxl", pipe)
    assert hooks(pipe) == 0
    for other, picture in [(again.encode(pipe), expected), (guider.new(), expected), (guider.new(prior=0.0), plain)]:
        pipe.update_components(guider=other)
        assert torch.equal(run("sdxl", pipe), picture)


def test_a_failing_forward_leaves_nothing_behind_and_the_pipeline_is_not_kept_alive() -> None:
    pipe = modular("sdxl")
    guider = DynamicNegativeGuidance(TWO, 5.0, **DYNAMIC).encode(pipe)
    pipe.update_components(guider=guider)
    expected = run("sdxl", pipe)
    calls: list[int] = []

    def fails(*_: object) -> None:
        calls.append(1)
        if len(calls) == 9:  # in the third step, when the posteriors have moved
            raise ZeroDivisionError

    handle = pipe.unet.register_forward_pre_hook(fails)
    with pytest.raises(ZeroDivisionError):
        run("sdxl", pipe)
    handle.remove()
    assert hooks(pipe) == 0
    assert torch.equal(run("sdxl", pipe), expected)
    del pipe, handle
    gc.collect()
    with pytest.raises(RuntimeError, match=r"call guider\.encode\(pipe\)"):
        guider._bound()


@pytest.mark.parametrize("name", ["sdxl", "wan", "klein", "zimage"])
def test_the_latents_of_a_step_are_those_that_the_scheduler_steps_from(name: str, monkeypatch: Any) -> None:
    pipe = modular(name)
    guider = DynamicNegativeGuidance(TWO, scale(name), **DYNAMIC).encode(pipe, **text_options(name))
    read: list[torch.Tensor] = []
    held: list[torch.Tensor] = []
    finish, step_of = guider._finished, type(pipe.scheduler).step

    def finished(guidance: Any) -> torch.Tensor:
        read.append(guidance.step.sample.clone())
        return finish(guidance)

    def step(scheduler: Any, prediction: Any, t: Any, sample: torch.Tensor, *more: Any, **named: Any) -> Any:
        held.append(sample.clone())
        return step_of(scheduler, prediction, t, sample, *more, **named)

    monkeypatch.setattr(guider, "_finished", finished)
    monkeypatch.setattr(type(pipe.scheduler), "step", step)
    pipe.update_components(guider=guider)
    run(name, pipe)
    assert len(read) == len(held) == 3
    for found, expected in zip(read, held, strict=True):
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4)
