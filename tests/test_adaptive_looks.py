"""Adaptive negatives: when is looked, with what previews, what goes wrong, the log, the configuration."""

from __future__ import annotations

import json
import threading
from typing import Any

import families
import numpy as np
import pytest
import torch
from adaptive_parts import brightest, generators, negatives, says

from negguide import (
    AdaptiveNegatives,
    NegativePrompt,
    Window,
    attach,
    from_json,
    to_json,
)
from negguide.methods.adaptive.policy import Sight
from negguide.methods.looks import dense
from negguide.watchers import Question, ZeroShot, asking, register_watcher


def test_looks_are_dense_early_and_only_where_asked() -> None:
    watcher = says("")
    with attach(families.build("sd15"), AdaptiveNegatives(watcher)) as attached:
        families.run("sd15", steps=25)
    looked = [note["looked_at"] for record in attached.trace for note in record.notes]
    assert len(watcher.seen) == len(looked) == 6
    assert looked == sorted(set(looked)) and sum(step <= 10 for step in looked) >= 0.7 * len(looked)
    assert [sum(mark < 0.4 for mark in dense(count)) for count in (0, 1, 2, 8, 40)] == [0, 1, 2, 6, 30]
    assert dense(8)[0] == dense(4)[0] == 0 < dense(3)[0]
    creative, guard = AdaptiveNegatives("toybox"), AdaptiveNegatives("toybox", "guard", watch=["hat"])
    assert creative.looks == dense(6) and guard.looks == (0.24, 0.36, 0.6)
    assert AdaptiveNegatives("toybox", "guard", watch=["hat"], looks=8).looks[0] > 0 == creative.looks[0]
    sigmas = [record.sigma for record in attached.trace]
    marks = (sigmas[3], (sigmas[7] + sigmas[8]) / 2, 0.0)
    with attach(families.build("sd15"), AdaptiveNegatives(watcher, looks=marks, looks_unit="sigma")) as attached:
        families.run("sd15", steps=25)
    assert [note["looked_at"] for record in attached.trace for note in record.notes] == [3, 8]


def test_between_the_looks_no_clean_estimate_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    denoised = AdaptiveNegatives.denoised

    def counted(self: AdaptiveNegatives, event: Any, state: Any) -> None:
        steps.append(event.step.index)
        denoised(self, event, state)

    monkeypatch.setattr(AdaptiveNegatives, "denoised", counted)
    for kind in ("replace", "signed"):
        steps.clear()
        with attach(families.build("sd15"), AdaptiveNegatives(brightest, looks=(0.1, 0.5), kind=kind)) as attached:
            families.run("sd15", steps=10)
        assert steps == [note["looked_at"] for record in attached.trace for note in record.notes] == [1, 5]


def test_a_kind_that_changes_the_clean_estimate_is_called_at_every_step_while_something_is_seen() -> None:
    steps: list[int] = []

    class Watched(NegativePrompt):
        def denoised(self, denoised: Any, state: Any) -> None:
            steps.append(denoised.step.index)

    method = AdaptiveNegatives(says("cat"), kind=lambda negative: Watched(negative), looks=(0.2,))
    with attach(families.build("sd15"), method):
        families.run("sd15", steps=6)
    assert steps == [3, 4, 5]


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


def test_the_time_of_a_watcher_counts_from_the_beginning_of_the_look(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, clock, waited = threading.Event(), [100.0], []

    class Thread(threading.Thread):
        def join(self, timeout: float | None = None) -> None:
            waited.append(timeout)

    monkeypatch.setattr(asking.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(asking.threading, "Thread", Thread)

    def stuck(images: Any, questions: Any) -> Any:
        gate.wait(60)
        return ["cat"]

    for seconds, left in ((3.0, 2.0), (7.0, 0.0)):
        look = asking.Look(stuck, [families.picture()], [(Question("What?"),)], threading.Lock())
        clock[0] += seconds  # the picture went on meanwhile
        assert look.outcome(timeout=5.0).error == "the watcher did not answer within 5 s"
        assert waited.pop() == left
    gate.set()


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


def test_a_tiny_autoencoder_in_the_pipelines_own_folder_shows_the_looks_and_nothing_else(tmp_path: Any) -> None:
    from diffusers import AutoencoderTiny

    tiny = AutoencoderTiny(
        latent_channels=4, encoder_block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8),
        num_encoder_blocks=(1, 1, 1, 1), num_decoder_blocks=(1, 1, 1, 1),
    )  # fmt: skip
    pipe, by_vae, by_folder, by_name = families.build("sd15"), says(""), says(""), says("")
    own = pipe.config.get("_name_or_path")

    def look(watcher: Any, preview: Any = None) -> torch.Tensor:
        with attach(pipe, AdaptiveNegatives(watcher, preview=preview, looks=(0.0,))):
            return families.run("sd15", steps=2)

    try:
        pipe.register_to_config(_name_or_path=str(tmp_path))
        before = look(by_vae)
        tiny.save_pretrained(tmp_path / "preview")
        after = look(by_folder)
        look(by_name, str(tmp_path / "preview"))
    finally:
        pipe.register_to_config(_name_or_path=own)
    vae, folder, name = (np.asarray(watcher.seen[0][0][0]) for watcher in (by_vae, by_folder, by_name))
    assert torch.equal(before, after), "the picture itself comes from the pipeline's own decoder"
    assert np.array_equal(folder, name)
    assert vae.shape != folder.shape or not np.array_equal(vae, folder)


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
        ({"drop": "newest"}, ValueError, "'oldest', 'weakest'"),
        ({"most": 0}, ValueError, "at least 1"),
        ({"min_confidence": 2}, ValueError, "from 0 to 1"),
        ({"watch": "cats", "keep": "cat"}, ValueError, "kept and watched"),
    ],
)
def test_errors_teach(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        AdaptiveNegatives(**{"watcher": "toybox", **options})


def test_unguided_calls_are_refused_with_a_reason() -> None:
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
