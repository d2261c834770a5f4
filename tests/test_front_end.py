"""The front end of a call runs once: encoders are asked as often as by the plain pipeline, and once more for negatives."""

from __future__ import annotations

import copy
import gc
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import families
import pytest
import torch

from negguide.engine import attach
from negguide.methods import EachImage, Negative, NegativePrompt, PerpNeg
from negguide.pipeline import answers
from negguide.pipeline.front_end import FrontEnd
from negguide.pipeline.plan_cache import PLANS

NEGATIVES = ["cat", "a large dog on water", "hat", "x"]
NEUTRAL = PerpNeg(Negative("cat", 0.0))


def counted(name: str) -> tuple[Any, Counter[str]]:
    """A pipeline with parts of its own, and how often its encoders are asked."""
    pipe, asked = copy.deepcopy(families.build(name)), Counter[str]()
    for part, module in pipe.components.items():
        if part.startswith("text_encoder") and module is not None:
            module.register_forward_hook(lambda *_, part=part: asked.update([part]))
    encode = pipe.vae.encode

    def counting(*args: Any, **kwargs: Any) -> Any:
        asked.update(["vae"])
        return encode(*args, **kwargs)

    pipe.vae.encode = counting  # as people count who patch an object
    return pipe, asked


def calls(asked: Counter[str]) -> Counter[str]:
    result = Counter(asked)
    asked.clear()
    return result


@pytest.mark.parametrize("name", families.FAMILIES)
def test_encoders_are_asked_once_for_all_negatives_and_not_again_for_the_same_texts(name: str) -> None:
    pipe, asked = counted(name)
    families.run(name, pipe, steps=2)
    plain = calls(asked)
    with attach(pipe, NEUTRAL):
        families.run(name, pipe, steps=2)
    assert calls(asked) == plain, "neutral"
    with attach(pipe, PerpNeg(NEGATIVES)):
        families.run(name, pipe, steps=2)
        assert calls(asked) == {part: count + (part != "vae") for part, count in plain.items()}, "four negatives"
        families.run(name, pipe, steps=2, seed=1)
        assert calls(asked) == plain, "another seed"
    with attach(pipe, PerpNeg(NEGATIVES[::-1])):
        families.run(name, pipe, steps=2)
    assert calls(asked) == plain, "a fresh attachment"


@pytest.mark.parametrize("name", ["sd15", "img2img", "flux", "qwen"])
def test_several_images_and_prompts_ask_no_more(name: str) -> None:
    pipe, asked = counted(name)
    several: dict[str, Any] = {"prompt": ["a pet on grass", "one red apple"], "steps": 2}
    families.run(name, pipe, **several)
    plain = calls(asked)
    with attach(pipe, PerpNeg([*NEGATIVES, Negative(("y", "z"))])):
        families.run(name, pipe, **several)
        first = calls(asked)
        assert first.pop("vae", 0) <= plain.get("vae", 0), "a picture that stands for two is encoded once"
        assert first == {part: count + 1 for part, count in plain.items() if part != "vae"}
        families.run(name, pipe, **several)
        assert calls(asked) <= Counter(plain)


def check_together_is_alone(name: str, make: Callable[[], Any]) -> None:
    """The oracle: each negative in a call of its own, on a pipeline that remembers nothing."""
    keep: list[torch.Tensor] = []

    class Keeping(PerpNeg):
        def combine(self, guidance: Any, state: dict[str, Any]) -> None:
            keep.extend(guidance[negative.condition] for negative in self.negatives if guidance.step.index == 0)

    with attach(pipe := make(), Keeping(NEGATIVES)):
        families.run(name, pipe, steps=2)
    together = list(keep)
    for text, found in zip(NEGATIVES, together, strict=True):
        keep.clear()
        with attach(pipe := make(), Keeping(text)):
            families.run(name, pipe, steps=2)
        assert float((found - keep[0]).abs().max()) <= 2e-4 * float(keep[0].abs().max()), text


@pytest.mark.parametrize("name", families.FAMILIES)
def test_negatives_encoded_together_are_those_encoded_alone(name: str) -> None:
    check_together_is_alone(name, lambda: copy.deepcopy(families.build(name)))


@pytest.mark.parametrize("multiple", [1, 8])
def test_padding_to_the_longest_text_of_a_batch_is_noticed(multiple: int) -> None:
    """No mask tells of it, and with a multiple not even the length of the longest: CogView4 encodes so."""

    def make() -> Any:
        pipe = copy.deepcopy(families.build("wan"))
        cls = type(pipe)

        def embeds(self: Any, prompt: Any, *args: Any, **kwargs: Any) -> Any:
            texts = [prompt] if isinstance(prompt, str) else prompt
            longest = max(len(self.tokenizer(text).input_ids) for text in texts)
            length = -(-longest // multiple) * multiple
            return cls._get_t5_prompt_embeds(self, prompt, *args, **{**kwargs, "max_sequence_length": length})

        pipe.__class__ = type(cls.__name__, (cls,), {"_get_t5_prompt_embeds": embeds, "__module__": cls.__module__})
        return pipe

    check_together_is_alone("wan", make)


def test_what_is_large_is_kept_for_the_front_end_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small answers serve texts that come up in mid-run; frames of a video would fill the memory."""
    kept: list[int] = []

    def look(pipe: Any, *_: Any) -> dict[str, Any]:
        front_end = FrontEnd.of(pipe)
        assert front_end is not None
        kept.append(sum(map(len, front_end._known.values())))
        return {}

    for most, number in ((2**20, 3), (0, 0)):
        pipe, asked = counted("img2img")
        monkeypatch.setattr("negguide.pipeline.front_end._LARGE", most)
        with attach(pipe, NEUTRAL):
            families.run("img2img", pipe, steps=3, callback_on_step_end=look)
        assert kept == [number] * 2 and calls(asked) == {"text_encoder": 2, "vae": 1}
        assert FrontEnd.of(pipe) is None
        kept.clear()


def test_two_prompts_in_turn_are_both_remembered() -> None:
    pipe, asked = counted("sd15")
    with attach(pipe, PerpNeg(NEGATIVES)):
        for prompt in ("a", "b"):
            families.run("sd15", pipe, steps=2, prompt=prompt)
        calls(asked)
        for prompt in ("a", "b"):
            families.run("sd15", pipe, steps=2, prompt=prompt)
            assert calls(asked) == {"text_encoder": 2}


def test_another_picture_needs_no_new_plan() -> None:
    pipe, asked = counted("img2img")
    with attach(pipe, NegativePrompt("cat")):
        families.run("img2img", pipe)
        calls(asked)
        other = families.picture().rotate(90)
        found = families.run("img2img", pipe, image=other)
        assert calls(asked) == {"text_encoder": 2, "vae": 1}
    wanted = families.run("img2img", pipe, image=other, negative_prompt="cat")
    assert float((found - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())


def test_what_is_drawn_at_random_is_not_remembered() -> None:
    """An encoder with dropout at work: neutral guidance draws as the plain pipeline does."""
    pipe = copy.deepcopy(families.build("sd15"))
    for layer in pipe.text_encoder.modules():
        if hasattr(layer, "dropout") and isinstance(layer.dropout, float):
            layer.dropout = 0.5
    pipe.text_encoder.train()
    torch.manual_seed(3)
    plain, after = families.run("sd15", pipe, steps=2), torch.rand(1)
    with attach(pipe, NEUTRAL):
        for _ in range(2):
            torch.manual_seed(3)
            assert torch.equal(families.run("sd15", pipe, steps=2), plain)
            assert torch.equal(torch.rand(1), after), "as many numbers are drawn"


def test_answers_that_a_pipeline_changes_in_place_are_asked_for_again() -> None:
    """As pipelines with weighted prompts do."""
    pipe = copy.deepcopy(families.build("sd15"))
    cls = type(pipe)

    def encode_prompt(self: Any, *args: Any, **kwargs: Any) -> Any:
        encoder = self.text_encoder
        ids = self.tokenizer("pet", padding="max_length", max_length=24, return_tensors="pt").input_ids
        encoder(ids)[0].mul_(3.0)
        found = cls.encode_prompt(self, *args, **kwargs)
        return (found[0] + encoder(ids)[0], found[1])

    pipe.__class__ = type(cls.__name__, (cls,), {"encode_prompt": encode_prompt, "__module__": cls.__module__})
    plain = families.run("sd15", pipe, steps=2)
    with attach(pipe, NEUTRAL):
        assert torch.equal(families.run("sd15", pipe, steps=2), plain)
        assert torch.equal(families.run("sd15", pipe, steps=2), plain)


def test_who_changes_an_answer_changes_it_for_nobody_else() -> None:
    known: list[answers.Answer] = []
    asked: list[torch.Tensor] = []

    def encoder(ids: torch.Tensor) -> tuple[torch.Tensor]:
        asked.append(ids)
        return (ids * 2.0,)

    ids = torch.arange(3.0)
    first = answers.answer(known, encoder, (ids,), {}, False)[0]
    answers.answer(known, encoder, (ids.clone(),), {}, False)[0].zero_()
    assert torch.equal(answers.answer(known, encoder, (ids.clone(),), {}, False)[0], ids * 2) and len(asked) == 1
    first.zero_()
    assert torch.equal(answers.answer(known, encoder, (ids.clone(),), {}, False)[0], ids * 2) and len(asked) == 2


def test_one_text_per_image_is_its_own_also_where_it_is_what_stands_there() -> None:
    """Texts that equal the call's own negatives in one order, and not in the other."""
    pipe = copy.deepcopy(families.build("sd15"))
    given: dict[str, Any] = {"prompt": ["a", "b"], "steps": 2}
    for order in (("cat", "dog"), ("dog", "cat")):
        with attach(pipe, NegativePrompt(Negative(EachImage(order)))):
            found = families.run("sd15", pipe, **given, negative_prompt=["cat", "dog"])
        wanted = families.run("sd15", pipe, **given, negative_prompt=list(order))
        assert float((found - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max()), order


def test_an_error_of_the_pipeline_leaves_nothing_remembered_or_routed() -> None:
    pipe, asked = counted("img2img")
    encode = pipe.vae.encode
    with attach(pipe, PerpNeg("cat")), pytest.raises(ValueError, match="strength"):
        families.run("img2img", pipe, strength=7.0)
    assert pipe.vae.encode is encode and type(pipe.text_encoder).__call__ is torch.nn.Module.__call__
    calls(asked)
    families.run("img2img", pipe)
    assert calls(asked) == {"text_encoder": 2, "vae": 1}


def test_attachments_with_new_texts_leave_nothing_behind() -> None:
    pipe = copy.deepcopy(families.build("sd15"))

    def tensors() -> int:
        gc.collect()
        return sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects())

    def serve(first: int, last: int) -> None:
        for at in range(first, last):
            with attach(pipe, PerpNeg([f"x{at}", f"y{at}"])):
                families.run("sd15", pipe, steps=1, prompt=f"a {max(0, at - 17)}")

    serve(0, 18)
    (plan,) = PLANS.of(pipe)
    assert list(plan.texts) == [f"{letter}{at}" for at in range(2, 18) for letter in "xy"], "the newest 32"
    before = tensors()
    serve(10, 18)
    assert tensors() <= before
    serve(18, 26)
    assert len(PLANS.of(pipe)) == 4 and all(len(plan.texts) <= 32 for plan in PLANS.of(pipe))
    assert tensors() <= 4 * before


def test_a_pipeline_that_is_gone_takes_its_plans_along() -> None:
    pipe = copy.deepcopy(families.build("sd15"))
    with attach(pipe, PerpNeg("cat")):
        families.run("sd15", pipe, steps=1)
    (plan,) = PLANS.of(pipe)
    gone, of = weakref.ref(pipe), weakref.ref(plan)
    del pipe, plan
    gc.collect()
    assert gone() is None and of() is None
