"""Adaptive negatives: policies, kinds of negatives, single images of a batch, what is asked, composition."""

from __future__ import annotations

import contextlib
import warnings
from typing import Any

import families
import numpy as np
import pytest
import torch
from adaptive_parts import brightest, difference, generators, negatives, says

from negguide import (
    VSF,
    AdaptiveNegatives,
    ContrastiveNegative,
    Interval,
    NegativePrompt,
    PerpNeg,
    Recommended,
    Window,
    attach,
)
from negguide.methods import Method, Negative
from negguide.methods.adaptive.policy import Held, Sight

FAMILIES = ["sd15", "sdxl", "sd3", "flux", "pixart"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_silent_watcher_changes_nothing_and_costs_no_pass(family: str) -> None:
    plain, watcher = families.run(family, steps=4), says("", "unknown", "no")
    for policy in ({}, {"policy": "guard", "watch": "cat"}):
        with attach(families.build(family), AdaptiveNegatives(watcher, looks=(0.0, 0.25, 0.5), **policy)) as attached:
            assert torch.equal(families.run(family, steps=4), plain)
        assert attached.passes == 8
        assert negatives(attached) == [[[]]] * 3
    assert len(watcher.seen) == 6
    assert torch.equal(families.run(family, steps=4), plain)


@pytest.mark.parametrize("kind", ["replace", "signed", "perp_neg"])
def test_an_answer_acts_from_the_next_step_as_a_fixed_negative_would(kind: str) -> None:
    fixed: dict[str, Method] = {
        "replace": NegativePrompt(Negative("cat", window=Window(0.25, 1.0))),
        "signed": NegativePrompt(Negative("cat", window=Window(0.25, 1.0)), mode="signed"),
        "perp_neg": PerpNeg(Negative("cat", window=Window(0.25, 1.0))),
    }
    for family in ("sd15", "flux"):
        with attach(families.build(family), fixed[kind]):
            wanted = families.run(family, steps=4)
        with attach(families.build(family), AdaptiveNegatives(says("a Cat."), kind=kind, looks=(0.0,))) as attached:
            found = families.run(family, steps=4)
        assert difference(found, wanted) < 1e-5
        assert attached.passes == (8 if kind == "replace" else 2 + 3 * 3)


@pytest.mark.parametrize("kind", ["replace", "signed", "perp_neg", "nag"])
@pytest.mark.parametrize("family", FAMILIES)
def test_each_image_of_a_batch_is_watched_as_if_alone(family: str, kind: str) -> None:
    def first_only(images: Any, questions: Any) -> Any:
        return [["" if answer == ["azure"] else answer[0]] for answer in brightest(images, questions)]

    method = AdaptiveNegatives(first_only, kind=kind, looks=(0.0, 0.3))
    prompts = ["a pet on grass", "one red apple"]
    with attach(families.build(family), method) as attached:
        many = families.run(family, prompt=prompts, num_images_per_prompt=2, generator=generators(5, 6, 7, 8))
        together = negatives(attached)[-1]
        for at in range(4):
            alone = families.run(family, prompt=prompts[at // 2], generator=generators(5 + at))
            assert negatives(attached)[-1] == [together[at]]
            assert difference(many[at : at + 1], alone) < 5e-4, (at, together[at])


def test_an_image_without_negative_is_untouched_in_a_batch() -> None:
    def second(images: Any, questions: Any) -> Any:
        return [["" if at != 1 else "cat"] for at in range(len(images))]

    def run() -> torch.Tensor:
        return families.run("sd15", num_images_per_prompt=3, generator=generators(1, 2, 3), negative_prompt="blurry")

    plain = run()
    for kind in ("replace", "signed", "perp_neg", "nag"):
        with attach(families.build("sd15"), AdaptiveNegatives(second, kind=kind, weight=2.0, looks=(0.0,))):
            found = run()
        assert difference(found[[0, 2]], plain[[0, 2]]) < 1e-5
        assert difference(found[[1]], plain[[1]]) > 1e-4


def test_creative_accumulates_and_guard_replaces() -> None:
    answers = ("a cat", "cats and a black dog", "pet", "kitty", "owl")
    options: dict[str, Any] = {"looks": (0, 0.1, 0.2, 0.3, 0.4), "synonyms": [("cat", "kitty")]}
    with attach(families.build("sd15"), AdaptiveNegatives(says(*answers), **options)) as attached:
        families.run("sd15", steps=10)
    grown = [["cat"], ["cat", "black dog"], ["cat", "black dog"], ["cat", "black dog"], ["cat", "black dog", "owl"]]
    assert negatives(attached) == [[row] for row in grown]
    guard = AdaptiveNegatives(
        says(*answers), policy="guard", watch=["dog", "cat"], questions="What is it?", kind="signed", **options
    )
    with attach(families.build("sd15"), guard) as attached:
        families.run("sd15", steps=10)
    assert negatives(attached) == [[["cat"]], [["dog", "cat"]], [[]], [["cat"]], [[]]]
    assert [record.passes for record in attached.trace] == [2, 3, 3, 2, 3, 2, 2, 2, 2, 2]


def test_a_guard_asks_for_each_thing_and_judges_the_picture_without_its_negative() -> None:
    watcher = says("yes")
    guard = AdaptiveNegatives(watcher, "guard", watch=["hat", "cat"], looks=(0.0, 0.3), weight=3.0, kind="signed")
    with attach(families.build("sd15"), guard) as attached:
        families.run("sd15", steps=4)
    assert [q.text for q in watcher.seen[0][1]] == ["Is there a hat in the picture?", "Is there a cat in the picture?"]
    assert negatives(attached)[0] == [["hat", "cat"]]
    creative = says("yes")
    with attach(
        families.build("sd15"),
        AdaptiveNegatives(creative, kind="signed", watch=["hat", "cat"], weight=3.0, looks=(0, 0.3)),
    ):
        families.run("sd15", steps=4)
    first, second = ([np.asarray(images[0]).astype(int) for images, _ in w.seen] for w in (watcher, creative))
    assert np.array_equal(first[0], second[0]), "the same picture, before anything acts"
    assert not np.array_equal(first[1], second[1]), "then only the guard looks past its own negative"


def sure(confidence: float, *answers: str) -> Any:
    """A watcher that is as sure of each answer."""
    looks = iter(answers)

    def watch(images: Any, questions: Any) -> Any:
        answer = next(looks)
        return [[[(answer, confidence)] for _ in questions] for _ in images]

    return watch


def test_a_guard_keeps_avoiding_by_default_what_its_negative_hides() -> None:
    plain = families.run("sd15", steps=8)
    looks = {"looks": (0.0, 0.3, 0.6)}
    with attach(
        families.build("sd15"), AdaptiveNegatives(sure(0.98, "yes", "no", "no"), "guard", watch="hat", **looks)
    ) as attached:
        seen = families.run("sd15", steps=8)
    assert negatives(attached) == [[["hat"]], [["hat"]], [["hat"]]]
    with attach(families.build("sd15"), Recommended(Negative("hat", window=Window(1 / 8, 0.999)))):
        wanted = families.run("sd15", steps=8)
    assert difference(seen, wanted) < 1e-5 < difference(seen, plain), "to the end, not in the first half alone"
    doubting = AdaptiveNegatives(sure(0.96, "yes", "yes", "yes"), "guard", watch="hat", **looks)
    warned = pytest.warns(UserWarning, match=r"never surer than 0\.96 and min_confidence is 0\.97; give a lower")
    with attach(families.build("sd15"), doubting) as attached, warned:
        assert np.array_equal(families.run("sd15", steps=8), plain)
    assert negatives(attached) == [[[]]] * 3
    nothing_there = AdaptiveNegatives(sure(0.96, "no", "no", "no"), "guard", watch="hat", **looks)
    with attach(families.build("sd15"), nothing_there), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        families.run("sd15", steps=8)


def test_a_guard_that_is_off_again_sees_the_picture_of_now() -> None:
    guarding, looking = says("yes", "no"), says("")
    guard = AdaptiveNegatives(
        guarding, "guard", watch=["hat"], looks=(0.0, 0.3, 0.6), asynchronous=True, weight=3.0, kind="signed"
    )
    spy = AdaptiveNegatives(looking, policy=lambda sight: (), looks=(0.6,), kind="signed")
    with attach(families.build("sd15"), guard, spy) as attached:
        families.run("sd15", steps=10)
    assert [record.passes for record in attached.trace] == [2, 2, 3, 3, 3, 2, 2, 2, 2, 2]
    assert np.array_equal(np.asarray(guarding.seen[2][0][0]), np.asarray(looking.seen[0][0][0]))
    assert not np.array_equal(np.asarray(guarding.seen[1][0][0]), np.asarray(guarding.seen[2][0][0]))


def test_a_policy_of_ones_own() -> None:
    sights: list[Sight] = []

    def latest(sight: Sight) -> Any:
        sights.append(sight)
        return [("thing", 0.5), Held("thing"), *sight.new[:1], ""]

    with attach(
        families.build("sd15"), AdaptiveNegatives(says("cat", "red pet"), policy=latest, looks=(0, 0.3))
    ) as attached:
        families.run("sd15", steps=4)
    assert negatives(attached) == [[["thing", "cat"]], [["thing", "red"]]]
    assert [(s.image, s.step, s.prompt, s.seen[0].text) for s in sights] == [
        (0, 0, "a pet on grass", "cat"),
        (0, 2, "a pet on grass", "red pet"),
    ]
    with (
        attach(families.build("sd15"), AdaptiveNegatives(says("cat"), policy=lambda sight: [3])),
        pytest.raises(TypeError, match="as a negative; possible"),
    ):
        families.run("sd15", steps=4)


def test_the_list_keeps_to_what_the_encoder_reads() -> None:
    things = [
        f"{a}{b}" for a in ("black ", "tall ", "tiny ") for b in ("castle", "windmill", "mushroom", "bicycle", "turtle")
    ]

    def many(images: Any, questions: Any) -> Any:
        return [[[(thing, 0.9 - 0.05 * (at % 7)) for at, thing in enumerate(things)]]]

    pipe = families.build("sd15")
    for drop in ("oldest", "weakest"):
        method = AdaptiveNegatives(many, looks=(0.0,), drop=drop, preview_size=8)
        with attach(pipe, method) as attached, pytest.warns(UserWarning, match=f"the {drop} are left out"):
            families.run("sd15", steps=2, prompt="a picture")
        (row,) = attached.trace[1].notes[0]["images"]
        text = ", ".join(row["negatives"])
        assert len(pipe.tokenizer(text).input_ids) <= pipe.tokenizer.model_max_length
        assert row["left_out"] and len(row["negatives"]) + len(row["left_out"]) == len(things)
        if drop == "oldest":
            assert row["left_out"] == things[: len(row["left_out"])]
        else:
            weakest = sorted(range(len(things)), key=lambda at: (0.9 - 0.05 * (at % 7), -at))
            assert row["left_out"] == [things[at] for at in weakest[: len(row["left_out"])]]
    with attach(pipe, AdaptiveNegatives(says("cat", "dog", "owl"), looks=(0, 0.2, 0.4), most=2)) as attached:
        families.run("sd15", steps=6)
    assert negatives(attached)[-1] == [["dog", "owl"]]


@pytest.mark.parametrize(("least", "wanted"), [(0.0, ["cat", "dog", "owl"]), (0.5, ["dog", "owl"]), (0.51, ["owl"])])
def test_answers_below_the_least_confidence_do_not_count(least: float, wanted: list[str]) -> None:
    def unsure(images: Any, questions: Any) -> Any:
        return [[[("cat", 0.49), ("dog", 0.5), ("owl", None)]] for _ in images]

    method = AdaptiveNegatives(unsure, questions="What is it?", looks=(0.0,), min_confidence=least)
    with attach(families.build("sd15"), method) as attached:
        families.run("sd15", steps=2)
    assert negatives(attached) == [[wanted]]
    guard = AdaptiveNegatives(
        unsure, "guard", watch=["cat", "dog"], questions="What?", looks=(0.0,), min_confidence=least
    )
    with attach(families.build("sd15"), guard) as attached:
        families.run("sd15", steps=2)
    assert negatives(attached) == [[[thing for thing in wanted if thing != "owl"]]]


def test_the_calls_own_negative_prompt_stays_at_work() -> None:
    with attach(families.build("sd15"), NegativePrompt(Negative("blurry, cat", window=Window(0.25, 1.0)))):
        wanted = families.run("sd15", steps=4, negative_prompt="blurry")
    with attach(families.build("sd15"), AdaptiveNegatives(says("cat"), looks=(0.0,))) as attached:
        found = families.run("sd15", steps=4, negative_prompt="blurry")
    assert difference(found, wanted) < 1e-5
    assert negatives(attached) == [[["cat"]]]


def test_it_asks_about_what_each_prompt_is_of() -> None:
    watcher = says("")
    with attach(families.build("sd15"), AdaptiveNegatives(watcher, looks=(0.0,))):
        families.run("sd15", steps=2, prompt=["a photo of a pet on grass", "two red apples", "a pet"])
    asked = [(len(images), [q.text for q in questions]) for images, questions in watcher.seen]
    assert asked == [(2, ["What kind of pet is it?"]), (1, ["What kind of apple is it?"])]
    with attach(families.build("sd15"), AdaptiveNegatives(watcher, questions="Which {noun}?", looks=(0.0,))):
        families.run("sd15", steps=2)
    assert [q.text for q in watcher.seen[-1][1]] == ["Which pet?"]
    with attach(
        families.build("sd15"), AdaptiveNegatives(says("a pet cat"), category="pet", keep="cat", looks=(0.0,))
    ) as attached:
        families.run("sd15", steps=2)
    assert negatives(attached) == [[[]]]


@pytest.mark.parametrize("family", ["sd15", "flux"])
def test_composes(family: str) -> None:
    method = AdaptiveNegatives(says("cat"), kind="signed", looks=(0.0,))
    for others in (
        [PerpNeg("hat")],
        [NegativePrompt("hat")],
        [Interval(Window(0.0, 0.7))],
        [PerpNeg("hat"), NegativePrompt("dog")],
    ):
        with contextlib.ExitStack() as stack:
            attached = stack.enter_context(attach(families.build(family), *others, method))
            found = families.run(family, steps=4)
        with attach(families.build(family), *others):
            without = families.run(family, steps=4)
        assert found.isfinite().all() and not torch.equal(found, without)
        assert {"adaptive", others[0].name} <= {name for record in attached.trace for name in record.methods}
    for others in ([NegativePrompt("hat")], [AdaptiveNegatives("toybox")]):
        with pytest.raises(ValueError, match="choose kind='signed'"):
            attach(families.build(family), AdaptiveNegatives("toybox"), *others)


def test_a_kind_of_ones_own() -> None:
    with attach(families.build("sd15"), ContrastiveNegative(Negative("cat", window=Window(0.3, 1.0)))):
        wanted = families.run("sd15")
    with attach(families.build("sd15"), AdaptiveNegatives(says("cat"), kind=ContrastiveNegative, looks=(0.0,))):
        assert difference(families.run("sd15"), wanted) < 1e-5
    with pytest.raises(TypeError, match="needed: a method"):
        AdaptiveNegatives(says("cat"), kind=lambda negative: negative)  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match="vsf cannot act for single images"):
        AdaptiveNegatives(says("cat"), kind=VSF)
