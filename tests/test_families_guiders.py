"""Pipeline classes that own a guider: guided as the guider would, told in words where it has another formula."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import diffusers
import families
import pytest
import torch
from torch import Tensor

from negguide.engine import Unsupported, attach
from negguide.methods import APG, NAG, Negative, NegativePrompt, NegToMe, PerpNeg

NAMES = ["hunyuan_image", "hunyuan_video_15", "motif_video"]


def _with(name: str, guider: Any) -> Any:
    pipe = copy.copy(families.build(name))
    pipe.guider = guider
    return pipe


class PerpNegLoop(diffusers.ClassifierFreeGuidance):  # type: ignore[misc]
    """The hand-written one: a guider with a third prediction, for the negative, and Perp-Neg's formula per picture."""

    _input_predictions: ClassVar[list[str]] = ["pred_cond", "pred_uncond", "pred_negative"]

    def set_texts(self, overlay: dict[str, Tensor]) -> PerpNegLoop:
        self.overlay = overlay
        return self

    @property
    def num_conditions(self) -> int:
        return 3

    def prepare_inputs(self, data: Any) -> list[Any]:
        batches = [self._prepare_batch(data, at, key) for at, key in ((0, "pred_cond"), (1, "pred_uncond"))]
        data = {key: (value[0], self.overlay[key]) for key, value in data.items()}
        return [*batches, self._prepare_batch(data, 1, "pred_negative")]

    def forward(self, pred_cond: Tensor, pred_uncond: Tensor, pred_negative: Tensor) -> Any:
        rows = []
        for c, u, n in zip(pred_cond.double(), pred_uncond.double(), pred_negative.double(), strict=True):
            towards, away = c - u, n - u
            away = away - (away * towards).sum() / (towards * towards).sum() * towards
            rows.append(u + 5.0 * (towards - away))
        from diffusers.guiders.guider_utils import GuiderOutput

        return GuiderOutput(pred=torch.stack(rows).to(pred_cond.dtype), pred_cond=pred_cond, pred_uncond=pred_uncond)


@pytest.mark.parametrize("name", NAMES)
def test_perp_neg_equals_a_guider_written_by_hand(name: str) -> None:
    pipe, asked = _with(name, diffusers.ClassifierFreeGuidance(5.0)), []
    handle = pipe.transformer.register_forward_pre_hook(lambda _, args, kw: asked.append(kw), with_kwargs=True)
    families.run(name, pipe, negative_prompt="cat")
    handle.remove()
    texts = {key: value for key, value in asked[1].items() if key.startswith("encoder_")}
    expected = families.run(name, _with(name, PerpNegLoop(5.0).set_texts(texts)))
    with attach(pipe, PerpNeg("cat")) as attached:
        found = families.run(name, pipe)
    assert attached.passes == 9
    assert float((found - expected).abs().max()) < 1e-4 * float(expected.abs().max())
    assert not torch.allclose(found, families.run(name, pipe), atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_negative_prompt_is_the_pipelines_own(name: str) -> None:
    pipe = families.build(name)
    with attach(pipe, NegativePrompt("cat", mode="replace")):
        found = families.run(name, pipe)
    expected = families.run(name, pipe, negative_prompt="cat")
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_rows_do_not_depend_on_the_batch(name: str) -> None:
    prompts = ["a pet on grass", "an apple"]
    for method in (PerpNeg("cat"), NAG("cat")):
        with attach(families.build(name), method):
            both = families.run(name, prompt=prompts)
            alone = [families.run(name, prompt=prompt, seed=at) for at, prompt in enumerate(prompts)]
        assert torch.allclose(both, torch.cat(alone), atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_takeover_and_attention_where_the_guider_is_off(name: str) -> None:
    pipe = _with(name, diffusers.ClassifierFreeGuidance(5.0, enabled=False))
    plain, guided = families.run(name, pipe), families.run(name)
    with attach(pipe, PerpNeg("cat")), pytest.raises(ValueError, match="guidance_scale= to attach"):
        families.run(name, pipe)
    with attach(pipe, PerpNeg(Negative("cat", 0.0)), guidance_scale=5.0):
        assert torch.allclose(families.run(name, pipe), guided, atol=1e-4)
    for method, more in ((NAG("cat"), {}), (NegToMe("all"), {"prompt": ["a pet on grass"] * 2})):
        alone = families.run(name, pipe, **more)
        with attach(pipe, method):
            assert not torch.equal(families.run(name, pipe, **more), alone)
    assert torch.equal(families.run(name, pipe), plain)
    with attach(families.build(name), APG(), guidance_scale=5.0), pytest.raises(ValueError, match=r"guider\.disable"):
        families.run(name)


def test_a_guider_of_another_formula_is_refused_with_the_remedy_also_between_calls() -> None:
    mix = diffusers.AdaptiveProjectedMixGuidance(3.5)
    with pytest.raises(Unsupported, match=r"its guider is AdaptiveProjectedMixGuidance.*register_modules\(guider="):
        attach(_with("hunyuan_image", mix), PerpNeg("cat"))
    pipe = _with("hunyuan_image", diffusers.ClassifierFreeGuidance(5.0))
    with attach(pipe, PerpNeg("cat")):
        before = families.run("hunyuan_image", pipe)
        pipe.guider.guidance_scale = 8.0
        assert not torch.allclose(families.run("hunyuan_image", pipe), before, atol=1e-4)
        pipe.ocr_guider = diffusers.AdaptiveProjectedMixGuidance(3.5)
        with pytest.raises(Unsupported, match=r"its ocr_guider is .*ocr_guider=diffusers\.ClassifierFreeGuidance"):
            families.run("hunyuan_image", pipe)
    pipe.ocr_guider = None
    pipe.register_modules(guider=diffusers.ClassifierFreeGuidance(5.0, stop=0.5))
    with pytest.raises(Unsupported, match="has a window"):
        attach(pipe, PerpNeg("cat"))


def test_the_guider_is_left_as_it_was() -> None:
    pipe = _with("hunyuan_image", diffusers.ClassifierFreeGuidance(5.0))
    guider = pipe.guider
    families.run("hunyuan_image", pipe)
    state = guider.get_state()
    with attach(pipe, PerpNeg("cat")) as attached:
        families.run("hunyuan_image", pipe)
        assert len(attached.trace) == 3
    assert pipe.guider is guider and type(guider) is diffusers.ClassifierFreeGuidance
    assert {k: str(v) for k, v in guider.get_state().items()} == {k: str(v) for k, v in state.items()}
