"""The engine and what pipeline calls offer: lists, generators, rescale, callbacks, embeddings, masks."""

from __future__ import annotations

import dataclasses
from typing import Any

import families
import numpy as np
import pytest
import torch

from negguide.engine import attach
from negguide.methods import (
    UNCONDITIONAL,
    Condition,
    Guidance,
    Mask,
    Method,
    Negative,
    NegativePrompt,
    PerpNeg,
    Step,
    Window,
)

NEUTRAL = PerpNeg(Negative("cat", 0.0))
ACTIVE = PerpNeg(["cat", Negative("hat", 0.6)])


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 2e-5) -> bool:
    return float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())


@dataclasses.dataclass(frozen=True)
class Keeping(Method):
    """Keeps the guidance of every step; its edit is the guided prediction itself."""

    wanted: tuple[Condition, ...] = (UNCONDITIONAL,)
    touch: bool = False
    kept: list[Guidance] = dataclasses.field(default_factory=list)

    def conditions(self, step: Step, state: dict[str, Any]) -> tuple[Condition, ...]:
        return self.wanted

    def prompts(self) -> tuple[Condition, ...]:
        return self.wanted

    def combine(self, guidance: Guidance, state: dict[str, Any]) -> None:
        self.kept.append(guidance)
        if self.touch:
            guidance.scale = guidance.plain_scale


# Not Qwen-Image: without us too, its masks are repeated wrongly for prompts of different lengths (diffusers 0.42).
@pytest.mark.parametrize("name", ["sd15", "sdxl", "flux", "zimage", "wan"])
def test_prompt_lists_times_images_per_prompt(name: str) -> None:
    pipe = families.build(name)
    more = {"prompt": ["a pet", "an apple"], "num_images_per_prompt": 2}
    if name == "wan":
        more["num_videos_per_prompt"] = more.pop("num_images_per_prompt")
        more["generator"] = [torch.Generator().manual_seed(i) for i in range(4)]
    plain = families.run(name, **_fresh(more))
    with attach(pipe, NEUTRAL):
        assert torch.equal(families.run(name, **_fresh(more)), plain)
    with attach(pipe, PerpNeg(Negative(("cat", "seed")))) as attached:
        four = families.run(name, **_fresh(more))
        assert four.shape[0] == 4 and attached.passes == 9
    for i, (prompt, negative) in enumerate([("a pet", "cat"), ("an apple", "seed")]):
        with attach(pipe, PerpNeg(negative)):
            one = families.run(name, prompt=prompt, seed=2 * i)
        assert close(four[2 * i : 2 * i + 1], one, 1e-4), i


def _fresh(more: dict[str, Any]) -> dict[str, Any]:
    return {k: [g.clone_state() for g in v] if k == "generator" else v for k, v in more.items()}


def test_one_text_per_prompt_must_match_the_prompts() -> None:
    with (
        attach(families.build("sd15"), PerpNeg(Negative(("cat", "seed", "hat")))),
        pytest.raises(ValueError, match=r"3 texts.*2 prompt"),
    ):
        families.run("sd15", prompt=["a", "b"])


@pytest.mark.parametrize("name", ["sd15", "zimage", "qwen"])
def test_the_callers_lists_and_generators_are_left_alone(name: str) -> None:
    prompts, generator = ["a pet", "an apple"], torch.Generator().manual_seed(5)
    plain = families.run(name, prompt=list(prompts), generator=torch.Generator().manual_seed(5))
    with attach(families.build(name), NEUTRAL):
        found = families.build(name)(
            **families.arguments(name, prompt=list(prompts)) | {"prompt": prompts, "generator": generator}
        ).images
    assert prompts == ["a pet", "an apple"]
    assert torch.equal(found, plain)


@pytest.mark.parametrize("name", ["sd15", "img2img", "flux"])
def test_global_random_state_is_drawn_from_as_ever(name: str) -> None:
    pipe = families.build(name)
    torch.manual_seed(11)
    plain, after = families.run(name, generator=None), torch.rand(3)
    with attach(pipe, ACTIVE, NEUTRAL):
        torch.manual_seed(11)
        families.run(name, generator=None)
        assert torch.equal(torch.rand(3), after)
    with attach(pipe, NEUTRAL):
        torch.manual_seed(11)
        assert torch.equal(families.run(name, generator=None), plain)


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_guidance_rescale_is_applied_inside(name: str) -> None:
    pipe = families.build(name)
    more = {"guidance_rescale": 0.7, "prompt": ["a pet", "an apple"]}
    plain = families.run(name, **more)
    with attach(pipe, NEUTRAL):
        assert torch.equal(families.run(name, **more), plain)
    keeping = Keeping(touch=True)
    with attach(pipe, keeping):
        assert close(families.run(name, **more), plain)
    assert keeping.kept[0].plain_scale == 5.0, "rescaling does not disturb the measure of the scale"
    assert not close(families.run(name, prompt=more["prompt"]), plain, 1e-3)


@pytest.mark.parametrize("name", families.FAMILIES)
def test_touching_without_changing_gives_the_pipelines_own_result(name: str) -> None:
    plain = families.run(name)
    with attach(families.build(name), Keeping(touch=True)) as attached:
        assert close(families.run(name), plain)
    assert attached.passes == 2 * len(attached.trace)


def test_z_image_norm_limit_is_applied_inside() -> None:
    plain = families.run("zimage", cfg_normalization=1.0)
    with attach(families.build("zimage"), Keeping(touch=True)):
        assert close(families.run("zimage", cfg_normalization=1.0), plain)
    assert not close(families.run("zimage"), plain, 1e-3)


def test_callbacks_that_switch_guidance_off_or_change_its_scale() -> None:
    from diffusers.callbacks import SDXLCFGCutoffCallback

    pipe = families.build("sdxl")

    def more() -> dict[str, Any]:
        return {"callback_on_step_end": SDXLCFGCutoffCallback(cutoff_step_ratio=0.5), "steps": 4}

    plain = families.run("sdxl", **more())
    with attach(pipe, NEUTRAL) as attached:
        assert torch.equal(families.run("sdxl", **more()), plain)
    assert [record.passes for record in attached.trace] == [2, 2, 2, 1]
    with attach(pipe, ACTIVE) as attached:
        families.run("sdxl", **more())
    assert [record.passes for record in attached.trace] == [4, 4, 4, 1]

    def stronger(pipe: Any, i: int, t: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        pipe._guidance_scale = 5.0 + i
        return kwargs

    keeping = Keeping(touch=True)
    with attach(families.build("sd15"), keeping):
        found = families.run("sd15", callback_on_step_end=stronger)
    assert [guidance.plain_scale for guidance in keeping.kept] == [5.0, 5.0, 6.0]
    assert close(found, families.run("sd15", callback_on_step_end=stronger))


@pytest.mark.parametrize("name", ["sd15", "wan", "flux"])
def test_callbacks_that_change_embeddings_are_followed(name: str) -> None:
    which = "negative_prompt_embeds" if name == "wan" else "prompt_embeds"

    def change(pipe: Any, i: int, t: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        return {which: kwargs[which] * 0.5}

    more = {"callback_on_step_end": change, "callback_on_step_end_tensor_inputs": [which]}
    plain = families.run(name, **more)
    with attach(families.build(name), NEUTRAL):
        assert torch.equal(families.run(name, **more), plain)
    assert not torch.equal(families.run(name), plain)
    with attach(families.build(name), Keeping(touch=True)):
        first = families.run(name, **more)
        assert torch.equal(families.run(name, **more), first), "a repeated call starts from the embeddings as encoded"


def test_repeated_calls_with_other_prompts_and_seeds() -> None:
    pipe = families.build("sd15")
    calls = [("a pet", 0), ("a pet", 1), ("an apple", 1), ("a pet", 0)]
    fresh = []
    for prompt, seed in calls:
        with attach(pipe, ACTIVE):
            fresh.append(families.run("sd15", prompt=prompt, seed=seed))
    with attach(pipe, ACTIVE) as attached:
        for (prompt, seed), expected in zip(calls, fresh, strict=True):
            assert torch.equal(families.run("sd15", prompt=prompt, seed=seed), expected)
        assert attached.runs == 4
        families.run("sd15", negative_prompt="a hat")
        assert close(families.run("sd15", prompt="a pet"), fresh[0])


@pytest.mark.parametrize("name", ["sd15", "flux", "qwen", "wan", "klein"])
def test_masks_reach_the_layout_of_the_family(name: str) -> None:
    picture = np.zeros((32, 32), dtype=np.float32)
    picture[:, 16:] = 1.0
    keeping = Keeping()
    with attach(families.build(name), keeping):
        families.run(name)
    step, cond = keeping.kept[0].step, keeping.kept[0].cond
    mask = step.resize_mask(Mask(picture))
    full = mask.expand_as(cond)
    assert step.sample.shape == cond.shape
    if cond.ndim == 3:
        side = int(cond.shape[1] ** 0.5)
        grid = full.reshape(1, side, side, -1)
        left, right = grid[:, :, : side // 2], grid[:, :, side // 2 :]
    else:
        left, right = full.chunk(2, dim=-1)
    assert float(left.mean()) < 0.2 and float(right.mean()) > 0.8, "edges are smooth"
    everywhere, nowhere = (Negative("cat", mask=Mask(np.full((32, 32), v, dtype=np.float32))) for v in (1.0, 0.0))
    pipe = families.build(name)
    with attach(pipe, PerpNeg("cat")):
        whole = families.run(name)
    with attach(pipe, PerpNeg(everywhere)):
        assert close(families.run(name), whole, 1e-4)
    with attach(pipe, PerpNeg(nowhere)):
        assert close(families.run(name), families.run(name), 1e-4)


def test_a_mask_is_resized_once_in_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = np.zeros((2, 64, 64), dtype=np.float32)
    left[:, :32], right[:, 32:] = 1.0, 1.0
    negatives = [
        Negative("cat", mask=Mask(left)),
        Negative("hat", mask=Mask(right)),
        Negative("dog", mask=Mask(left.copy())),
    ]
    whole, resized = Mask.tensor, []

    def counted(mask: Mask, height: int, width: int) -> torch.Tensor:
        resized.append(mask)
        return whole(mask, height, width)

    monkeypatch.setattr(Mask, "tensor", counted)
    with attach(families.build("sd15"), PerpNeg(negatives)):
        families.run("sd15", steps=3)
        assert resized == [Mask(left), Mask(right)]
        families.run("sd15", steps=3)
    assert len(resized) == 4, "a run remembers nothing of another"


def test_prompt_embeds_instead_of_a_prompt() -> None:
    pipe = families.build("sd15")
    embeds = pipe.encode_prompt(["a pet", "an apple"], torch.device("cpu"), 1, False)[0]
    with attach(pipe, PerpNeg("cat")):
        expected = families.run("sd15", prompt=["a pet", "an apple"])
        generators = [torch.Generator().manual_seed(i) for i in range(2)]
        found = families.run("sd15", prompt=None, prompt_embeds=embeds, generator=generators)
    assert close(found, expected)


def test_pictures_and_tuples_come_out_as_ever() -> None:
    pipe = families.build("sd15")
    more = families.arguments("sd15") | {"output_type": "np", "return_dict": False}
    with attach(pipe, NEUTRAL):
        found = pipe(more.pop("prompt"), **more)[0]
    more = families.arguments("sd15") | {"output_type": "np", "return_dict": False}
    assert np.array_equal(found, pipe(**more)[0])


def test_negative_windows_shrink_the_batch_in_mid_run() -> None:
    pipe = families.build("sdxl")
    windowed = NegativePrompt([Negative("cat", window=Window(0.0, 0.5))])
    with attach(pipe, windowed) as attached:
        found = families.run("sdxl", steps=4)
    assert [record.passes for record in attached.trace] == [2, 2, 2, 2]
    assert found.isfinite().all() and not torch.equal(found, families.run("sdxl", steps=4))
