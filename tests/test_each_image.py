"""One text per image: each image of a batch is steered as if it were alone; texts are encoded once."""

from __future__ import annotations

import contextlib
from typing import Any

import families
import pytest
import torch

from negguide import EachImage, NegativePrompt, PerpNeg, attach
from negguide.methods import Negative
from negguide.pipeline import guidance
from negguide.pipeline import plan as plans
from negguide.pipeline.plan_cache import PLANS

TEXTS = ("cat", None, "a large dog on water", "cat")


def generators(*seeds: int) -> Any:
    several = [torch.Generator().manual_seed(seed) for seed in seeds]
    return several if len(several) > 1 else several[0]


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("family", ["sd15", "sdxl", "sd3", "flux", "pixart", "qwen", "zimage", "klein"])
def test_each_image_of_a_batch_equals_the_image_alone(family: str) -> None:
    pipe, prompts = families.build(family), ["a pet on grass", "one red apples"]
    more: dict[str, Any] = {"guidance_scale": 4.0} if family == "klein" else {}
    with attach(pipe, PerpNeg(Negative(EachImage(TEXTS)), unconditional="own"), **more):
        many = families.run(family, prompt=prompts, steps=2, num_images_per_prompt=2, generator=generators(1, 2, 3, 4))
    for at, text in enumerate(TEXTS):
        if text is None and more:
            continue  # this family has no guidance of its own to compare with
        with contextlib.ExitStack() as stack:
            if text is not None:
                stack.enter_context(attach(pipe, PerpNeg(text, unconditional="own"), **more))
            alone = families.run(family, prompt=prompts[at // 2], steps=2, generator=generators(at + 1))
        assert error(many[at : at + 1], alone) < 2e-4, (at, text)


def test_texts_are_encoded_once_and_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    probes: list[Any] = []
    real = guidance.probe_of_text
    monkeypatch.setattr(plans, "probe_of_text", lambda *args: probes.append(args) or real(*args))
    pipe = families.build("sd15")
    with attach(pipe, NegativePrompt(Negative(EachImage(("cat", "dog", "cat"))))):
        families.run("sd15", steps=2, num_images_per_prompt=3)
        assert len(probes) == 1, "two texts, one probe"
        families.run("sd15", steps=2, num_images_per_prompt=3)
        assert len(probes) == 1
    plan = PLANS.of(pipe)[-1]
    assert not plan.keys and not plan.overlays
    assert set(plan.texts) == {"cat", "dog"}


def test_a_batch_without_any_difference_costs_nothing() -> None:
    pipe = families.build("sd15")
    with attach(pipe, NegativePrompt(Negative(EachImage(("", None))))) as attached:
        families.run("sd15", steps=2, num_images_per_prompt=2)
    assert attached.passes == 4


def test_a_wrong_number_of_texts_teaches() -> None:
    with (
        attach(families.build("sd15"), NegativePrompt(Negative(EachImage(("cat", "dog"))))),
        pytest.raises(ValueError, match=r"2 texts \('cat', 'dog'\), the call makes 3 image"),
    ):
        families.run("sd15", steps=2, num_images_per_prompt=3)
    with pytest.raises(ValueError, match="one text per image"):
        EachImage((None, None))


@pytest.mark.parametrize("family", ["sd15", "sdxl", "sd3", "flux", "pixart"])
def test_previews_are_the_pictures_of_the_pipeline(family: str) -> None:
    """The pipeline's own decoding, written by its authors, is the oracle for scaling, shift and unpacking."""
    import numpy as np

    from negguide.engine import latents

    pipe = families.build(family)
    with attach(pipe, NegativePrompt("cat")):
        clean = families.run(family, steps=2)
    layout = PLANS.of(pipe)[-1].layout
    wanted = pipe(**families.arguments(family, steps=2, negative_prompt="cat", output_type="np")).images[0]
    (found,) = latents.decode(pipe, layout, clean)
    assert np.abs(np.asarray(found) / 255.0 - wanted).max() < 0.6 / 255
    (small,) = latents.decode(pipe, layout, clean, longest=max(found.size) // 2)
    assert max(small.size) == max(found.size) // 2
