"""Adaptive negatives: policies, when an answer takes effect, single images of a batch, the log, what goes wrong."""

from __future__ import annotations

import contextlib
import json
import threading
from typing import Any

import families
import numpy as np
import pytest
import torch

from negguide import (
    VSF,
    AdaptiveNegatives,
    ContrastiveNegative,
    Interval,
    NegativePrompt,
    PerpNeg,
    Unsupported,
    Window,
    attach,
    from_json,
    to_json,
)
from negguide.methods import Method, Negative
from negguide.methods.looks import dense
from negguide.methods.policy import Held, Sight
from negguide.vlm import Question, ZeroShot, register_watcher

FAMILIES = ["sd15", "sdxl", "sd3", "flux", "pixart"]


def says(*answers: str) -> Any:
    """A watcher that gives these answers, look by look, and then the last one again; it remembers the pictures."""

    def watcher(images: Any, questions: Any) -> Any:
        at = min(len(watcher.seen), len(answers) - 1)  # type: ignore[attr-defined]
        watcher.seen.append((images, questions))  # type: ignore[attr-defined]
        return [[answers[at]] * len(questions) for _ in images]

    watcher.seen = []  # type: ignore[attr-defined]
    return watcher


def brightest(images: Any, questions: Any) -> Any:
    """The colour that prevails in each picture."""
    means = [np.asarray(image, dtype=float).mean((0, 1)) for image in images]
    return [[("crimson", "emerald", "azure")[int(mean.argmax())]] * len(questions) for mean in means]


def generators(*seeds: int) -> Any:
    several = [torch.Generator().manual_seed(seed) for seed in seeds]
    return several if len(several) > 1 else several[0]


def negatives(attached: Any) -> list[list[list[str]]]:
    """For each look that came to its end, the negatives of each image."""
    return [[row["negatives"] for row in note["images"]] for record in attached.trace for note in record.notes]


def difference(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


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
    guard = AdaptiveNegatives(says(*answers), policy="guard", watch=["dog", "cat"], questions="What is it?", **options)
    with attach(families.build("sd15"), guard) as attached:
        families.run("sd15", steps=10)
    assert negatives(attached) == [[["cat"]], [["dog", "cat"]], [[]], [["cat"]], [[]]]
    assert [record.passes for record in attached.trace] == [2, 3, 3, 2, 3, 2, 2, 2, 2, 2]


def test_a_guard_asks_for_each_thing_and_judges_the_picture_without_its_negative() -> None:
    watcher = says("yes")
    guard = AdaptiveNegatives(watcher, policy="guard", watch=["hat", "cat"], looks=(0.0, 0.3), weight=3.0)
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


def test_looks_are_dense_early_and_only_where_asked() -> None:
    watcher = says("")
    with attach(families.build("sd15"), AdaptiveNegatives(watcher)) as attached:
        families.run("sd15", steps=25)
    looked = [note["looked_at"] for record in attached.trace for note in record.notes]
    assert len(watcher.seen) == len(looked) <= 8
    assert looked == sorted(set(looked)) and sum(step <= 10 for step in looked) >= 0.7 * len(looked)
    assert [sum(mark < 0.4 for mark in dense(count)) for count in (0, 1, 2, 8, 40)] == [0, 1, 2, 6, 30]
    sigmas = [record.sigma for record in attached.trace]
    marks = (sigmas[3], (sigmas[7] + sigmas[8]) / 2, 0.0)
    with attach(families.build("sd15"), AdaptiveNegatives(watcher, looks=marks, looks_unit="sigma")) as attached:
        families.run("sd15", steps=25)
    assert [note["looked_at"] for record in attached.trace for note in record.notes] == [3, 8]


def test_asynchronous_answers_take_effect_exactly_one_step_later() -> None:
    gate, asked = threading.Event(), []

    def after(pipe: Any, index: int, timestep: Any, values: Any) -> Any:
        if index == 1:  # step 1 has run during the look at step 0
            gate.set()
        return values

    def run(watcher: Any, **options: Any) -> tuple[torch.Tensor, Any]:
        method = AdaptiveNegatives(watcher, looks=(0.0, 0.2, 0.6), **options)
        with attach(families.build("sd15"), method) as attached:
            return families.run("sd15", steps=6, callback_on_step_end=after), attached

    def slow(images: Any, questions: Any) -> Any:
        asked.append(threading.current_thread())
        if len(asked) == 1:
            assert gate.wait(60), "the next step runs while the watcher thinks"
        return brightest(images, questions)

    first, attached = run(slow, asynchronous=True)
    notes = [note for record in attached.trace for note in record.notes]
    where = [record.index for record in attached.trace for _ in record.notes]
    assert where == [note["acts_from"] for note in notes] == [note["looked_at"] + 2 for note in notes]
    assert all(thread is not threading.main_thread() for thread in asked)
    again, _ = run(brightest, asynchronous=True)
    assert torch.equal(first, again), "the same for a seed, however long the watcher takes"
    direct, attached = run(brightest)
    assert not torch.equal(first, direct)
    assert [note["acts_from"] - note["looked_at"] for r in attached.trace for note in r.notes] == [1, 1, 1]


def test_a_watcher_that_fails_costs_the_look_and_not_the_picture() -> None:
    def broken(images: Any, questions: Any) -> Any:
        calls.append(1)
        if len(calls) != 2:
            raise RuntimeError("out of order")
        return ["cat"]

    calls: list[int] = []
    with (
        attach(families.build("sd15"), AdaptiveNegatives(broken, looks=(0, 0.2, 0.4))) as attached,
        pytest.warns(UserWarning, match="look at step 0 was lost .RuntimeError: out of order") as told,
    ):
        families.run("sd15", steps=6)
    assert len(told) == 1
    notes = [note for record in attached.trace for note in record.notes]
    assert [note.get("error") for note in notes] == ["RuntimeError: out of order", None, "RuntimeError: out of order"]
    assert attached.trace[-1].conditions, "what was seen before goes on"


def test_a_late_watcher_loses_its_look() -> None:
    plain, gate = families.run("sd15", steps=6), threading.Event()

    def stuck(images: Any, questions: Any) -> Any:
        gate.wait(60)
        return ["cat"]

    for asynchronous in (False, True):
        gate.clear()
        method = AdaptiveNegatives(stuck, looks=(0.0, 0.5), timeout=0.01, asynchronous=asynchronous)
        with attach(families.build("sd15"), method) as attached, pytest.warns(UserWarning, match="within 0.01 s"):
            assert torch.equal(families.run("sd15", steps=6), plain)
        gate.set()
        errors = [note["error"] for record in attached.trace for note in record.notes]
        assert "within 0.01 s" in errors[0] and "still busy" in errors[1]


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


def test_previews_may_come_from_a_tiny_autoencoder(tmp_path: Any) -> None:
    from diffusers import AutoencoderTiny

    tiny = AutoencoderTiny(
        latent_channels=4, encoder_block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8),
        num_encoder_blocks=(1, 1, 1, 1), num_decoder_blocks=(1, 1, 1, 1),
    )  # fmt: skip
    tiny.save_pretrained(tmp_path)
    pipe, by_module, by_name, by_vae = families.build("sd15"), says(""), says(""), says("")
    for watcher, preview in ((by_module, tiny), (by_name, str(tmp_path)), (by_vae, None)):
        with attach(pipe, AdaptiveNegatives(watcher, preview=preview, looks=(0.0,))):
            families.run("sd15", steps=2)
    module, name, vae = (np.asarray(watcher.seen[0][0][0]) for watcher in (by_module, by_name, by_vae))
    assert np.array_equal(module, name)
    assert module.shape != vae.shape or not np.array_equal(module, vae)


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


def test_detaches_also_after_an_error() -> None:
    plain = families.run("sd15")

    def policy(sight: Sight) -> Any:
        raise KeyError("mine")

    with (
        attach(families.build("sd15"), AdaptiveNegatives(says("cat"), policy=policy, looks=(0.0,))),
        pytest.raises(KeyError, match="mine"),
    ):
        families.run("sd15")
    assert torch.equal(families.run("sd15"), plain)


def test_the_log_is_json() -> None:
    with attach(families.build("sd15"), AdaptiveNegatives(brightest, looks=(0.0, 0.4))) as attached:
        families.run("sd15", num_images_per_prompt=2, generator=generators(1, 2))
    notes = json.loads(json.dumps([note for record in attached.trace for note in record.notes]))
    assert [note["acts_from"] for note in notes] == [1, 2][: len(notes)] and len(notes) >= 1
    assert [row["image"] for row in notes[0]["images"]] == [0, 1]
    row = notes[0]["images"][0]
    assert row["asked"] == ["What kind of pet is it?"] and row["answered"][0][0]["text"] == row["negatives"][0]


def test_config_to_json_to_config() -> None:
    register_watcher("of_the_tests", brightest)
    for config in (
        AdaptiveNegatives("of_the_tests"),
        AdaptiveNegatives("vqa:some/model", keep="pet", looks=3, window=Window(0, 0.4), kind="perp_neg", weight=2),
        AdaptiveNegatives(
            ZeroShot("a/b", {"pet": ["cat", "dog"]}), "guard", watch=["cat"], looks=(5.0, 1.0), looks_unit="sigma"
        ),
        AdaptiveNegatives("toybox", questions=["What?", Question("Hat?", "hat")], synonyms=[("cat", "kitty")]),
    ):
        assert from_json(to_json(config)) == config
        json.loads(to_json(config))
    for unsaved in (AdaptiveNegatives(brightest), AdaptiveNegatives("toybox", policy=lambda sight: ())):
        with pytest.raises(TypeError, match="register_watcher"):
            to_json(unsaved)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"policy": "creatve"}, ValueError, "possible: 'creative', 'guard'"),
        ({"policy": "guard"}, ValueError, "needs the list"),
        ({"kind": "vsf"}, ValueError, "possible: 'replace', 'signed', 'perp_neg', 'nag'"),
        ({"watcher": 3}, TypeError, "possible: 'toybox'"),
        ({"watcher": "nobody"}, ValueError, "possible: 'toybox'"),
        ({"scale": 2.0}, ValueError, "no scale of its own"),
        ({"looks": "often"}, TypeError, "how many"),
        ({"looks": (1.5,)}, ValueError, "from 0 to 1"),
        ({"looks": 3, "looks_unit": "sigma"}, ValueError, "of progress"),
        ({"drop": "newest"}, ValueError, "'oldest' or 'weakest'"),
        ({"most": 0}, ValueError, "at least one"),
        ({"min_confidence": 2}, ValueError, "from 0 to 1"),
        ({"watch": "cats", "keep": "cat"}, ValueError, "kept and watched"),
    ],
)
def test_errors_teach(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        AdaptiveNegatives(**{"watcher": "toybox", **options})


def test_videos_and_unguided_calls_are_refused_with_a_reason() -> None:
    with attach(families.build("wan"), AdaptiveNegatives(says("cat"))), pytest.raises(Unsupported, match="WanPipeline"):
        families.run("wan")
    with attach(families.build("sd15"), AdaptiveNegatives(says("cat"))), pytest.raises(ValueError, match="guidance"):
        families.run("sd15", guidance_scale=1.0)
    with attach(families.build("sd15"), AdaptiveNegatives(says("cat"), kind="nag", looks=(0.0,))) as attached:
        families.run("sd15", guidance_scale=1.0)
    assert negatives(attached) == [[["cat"]]]


def test_with_weight_zero_nobody_looks() -> None:
    plain, watcher = families.run("sd15"), says("cat")
    with attach(families.build("sd15"), AdaptiveNegatives(watcher, weight=0.0)) as attached:
        assert torch.equal(families.run("sd15"), plain)
    assert attached.passes == 6 and not watcher.seen
