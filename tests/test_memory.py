"""No forward is larger than the pipeline's own; smaller ones on demand, and where memory runs out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import families
import pytest
import torch
from torch import Tensor

from negguide.engine import attach, memory
from negguide.methods import NAG, Negative, PerpNeg, Window

FOUR = PerpNeg(["cat", Negative("hat", 0.6), Negative("tree", window=Window(0, 0.5)), "bus"])
TWO = ["a pet on grass", "one red apples"]
FEW = ["sd15", "sdxl", "inpaint", "controlnet", "sd3", "flux", "pixart", "wan", "qwen", "zimage", "hidream", "latte"]


@contextmanager
def rows_seen(pipe: Any, name: str, room: int | None = None) -> Iterator[list[int]]:
    """Rows of every forward of the denoiser; one of more than `room` rows runs out of memory."""
    seen: list[int] = []
    module: Any = getattr(pipe, (families.FAMILIES | families.MORE)[name].denoiser)
    forward = module.forward

    def counting(*args: Any, **named: Any) -> Any:
        value = args[0] if args else named.get("hidden_states", named.get("sample", named.get("x")))
        seen.append(len(value))
        if room is not None and len(value) > room:
            raise torch.OutOfMemoryError("CUDA out of memory (of a test)")
        return forward(*args, **named)

    module.forward = counting
    try:
        yield seen
    finally:
        del module.forward


def close(found: Tensor, expected: Tensor) -> bool:
    return float((found - expected).abs().max()) <= 1e-4 * float(expected.abs().max())


@pytest.mark.parametrize("name", FEW)
def test_no_forward_is_larger_than_the_pipelines_own(name: str) -> None:
    pipe = families.build(name)
    with rows_seen(pipe, name) as plain:
        families.run(name, steps=2, prompt=TWO)
    with attach(pipe, FOUR), rows_seen(pipe, name) as seen:
        found = families.run(name, steps=2, prompt=TWO)
    assert len(seen) > len(plain)
    assert max(seen) == max(plain)
    with attach(pipe, FOUR, one_call=True), rows_seen(pipe, name) as together:
        assert close(families.run(name, steps=2, prompt=TWO), found)
    assert max(together) >= max(seen)


def test_one_image_on_an_accelerator_may_have_four_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = families.build("sd15")
    with attach(pipe, FOUR), rows_seen(pipe, "sd15") as seen:
        expected = families.run("sd15", steps=2)
    assert max(seen) == 2
    monkeypatch.setattr("negguide.engine.memory._on_accelerator", lambda modules: True)
    with attach(pipe, FOUR), rows_seen(pipe, "sd15") as seen:
        assert close(families.run("sd15", steps=2), expected)
    assert seen == [4, 2, 4, 1], "the prompt, the unconditional and two negatives, then the others; one is over by then"
    with attach(pipe, FOUR), rows_seen(pipe, "sd15") as seen:
        families.run("sd15", steps=2, prompt=[*TWO, "a tree"])
    assert max(seen) == 6, "three images: as many as the pipeline's own call"
    with attach(pipe, FOUR, max_batch=2), rows_seen(pipe, "sd15") as seen:
        families.run("sd15", steps=2)
    assert max(seen) == 2


def test_only_weights_that_stay_on_an_accelerator_count() -> None:
    def placed(*devices: str) -> list[torch.nn.Module]:
        return [SimpleNamespace(parameters=lambda: [SimpleNamespace(device=torch.device(d)) for d in devices])]

    assert memory._on_accelerator(placed("cuda:0", "cuda:1")) and memory._on_accelerator(placed("mps"))
    assert not memory._on_accelerator(placed("cuda", "cpu")) and not memory._on_accelerator(placed("meta"))
    assert not memory._on_accelerator(placed())


@pytest.mark.parametrize("name", FEW)
def test_images_go_one_after_the_other(name: str) -> None:
    pipe = families.build(name)
    with attach(pipe, FOUR) as attached:
        expected, passes = families.run(name, steps=2, prompt=TWO), attached.passes
    with attach(pipe, FOUR, max_batch=1) as attached, rows_seen(pipe, name) as seen:
        found = families.run(name, steps=2, prompt=TWO)
    assert set(seen) == {1}
    assert attached.passes == passes
    assert close(found, expected)


@pytest.mark.parametrize("name", ["sd15", "flux"])
def test_images_go_one_after_the_other_in_taken_over_guidance(name: str) -> None:
    pipe, off = families.build(name), {(families.FAMILIES | families.MORE)[name].scale: 1.0}
    with attach(pipe, FOUR, guidance_scale=5.0):
        expected = families.run(name, steps=2, prompt=TWO, **off)
    with attach(pipe, FOUR, guidance_scale=5.0, max_batch=1), rows_seen(pipe, name) as seen:
        found = families.run(name, steps=2, prompt=TWO, **off)
    assert set(seen) == {1}
    assert close(found, expected)


def test_a_listener_keeps_the_images_together() -> None:
    pipe, methods = families.build("sd15"), (NAG("hat"), FOUR)
    with attach(pipe, *methods):
        expected = families.run("sd15", prompt=TWO)
    with attach(pipe, *methods, max_batch=1), rows_seen(pipe, "sd15") as seen:
        assert close(families.run("sd15", prompt=TWO), expected)
    assert set(seen) == {2}


def test_a_forward_without_room_is_tried_in_halves() -> None:
    pipe = families.build("sd15")
    with attach(pipe, FOUR) as attached:
        expected, passes = families.run("sd15", steps=2, prompt=TWO), attached.passes
    with (
        attach(pipe, FOUR, one_call=True) as attached,
        rows_seen(pipe, "sd15", room=4) as seen,
        pytest.warns(UserWarning, match=r"max_batch=6") as told,
    ):
        found = families.run("sd15", steps=2, prompt=TWO)
    assert close(found, expected)
    assert attached.passes == passes
    assert seen[:3] == [12, 6, 2], (
        "2 images, the prompt, the unconditional and four negatives; none of 6 after the first"
    )
    assert seen.count(12) == 1 and max(seen[2:]) <= 4
    assert len(told) == 2


def test_without_room_for_one_condition_the_error_is_the_pipelines() -> None:
    pipe = families.build("sd15")
    with attach(pipe, FOUR), rows_seen(pipe, "sd15", room=1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(torch.OutOfMemoryError, match="of a test"):
            families.run("sd15", prompt=TWO)
    with attach(pipe, FOUR), rows_seen(pipe, "sd15"):
        families.run("sd15", prompt=TWO)
