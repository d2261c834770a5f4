"""The bench of negatives that watch: its measures by hand, its arms, and its report, with a watcher that knows the answers."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import numpy as np
import pytest

from lab.bench import adaptive
from lab.bench.adaptive_report import AdaptiveReport, differences, guards
from lab.bench.run import run_arms
from negguide.methods import AdaptiveNegatives, NegativePrompt
from negguide.methods.adaptive.policy import Held, Sight
from negguide.toybox.world import bias, render, sample_scene
from negguide.watchers import register_watcher


def test_measures_of_known_pictures() -> None:
    rng = np.random.default_rng(0)
    fixed: dict[str, Any] = {"background": "grass", "style": "clean", "accessories": (), "count": 1, "size": "large"}
    same = [render(sample_scene(rng, kind="cat", colour="red", position="center", **fixed))] * 8
    kinds = ["cat", "cat", "cat", "cat", "dog", "dog", "turtle", "apple"]
    mixed = [render(sample_scene(rng, kind=kind, **fixed)) for kind in kinds]
    alike, spread = adaptive.judge(np.stack(same + mixed), ["a pet", "a pet on grass"])
    assert alike["dominant"] == alike["typicality"] == alike["valid"] == alike["kinds"] == 1
    assert alike["variance"] == pytest.approx(0, abs=1e-5) and alike["vendi"] == pytest.approx(1, abs=1e-4)
    assert spread["dominant"] == 4 / 8 and spread["valid"] == 7 / 8 and spread["kinds"] == 3
    assert spread["typicality"] == pytest.approx((4 * 0.58 + 2 * 0.2 + 0.04) / 7 / 0.58)
    assert spread["variance"] > 0.1 and spread["entropy"] == pytest.approx(0.5 + 0.5 + 2 * 3 / 8)


def test_the_guards_rates_by_hand() -> None:
    def row(arm: str, was: bool, there: bool, same: bool) -> dict[str, Any]:
        return {"arm": arm, "strength": 1.0, "case": "x", "was": was, "there": there, "same": same, "met": True}

    rows = [row("guard 1", True, False, False)] * 3 + [row("guard 1", True, True, True)]
    rows += [row("guard 1", False, False, True)] * 5 + [row("guard 1", False, True, False)]
    every, case = guards([*rows, {**rows[0], "arm": "unguarded", "strength": 0.0}])[::-1]
    assert case["case"] == "x" and every["case"] == "all" and every["pictures"] == 10
    for found in (every, case):
        assert found["was"]["mean"] == 0.4 and found["removed"]["mean"] == 0.75
        assert found["untouched"]["mean"] == pytest.approx(5 / 6, abs=1e-4) and found["there"]["mean"] == 0.2


def test_differences_are_paired_by_prompt() -> None:
    def row(arm: str, prompt: str, value: float) -> dict[str, Any]:
        return {"arm": arm, "prompt": prompt, "dominant": value, "kinds": 1, "entropy": 0.0, "valid": 1.0}

    rows = [row("plain", "a", 0.9), row("plain", "b", 0.1), row("creative", "b", 0.0), row("creative", "a", 0.8)]
    (found,) = differences(rows)
    assert found["dominant"] == {"mean": -0.1, "low": -0.1, "high": -0.1}, "no spread between pairs, though much within"


def test_the_policy_that_forgets() -> None:
    cat, dog = Held("cat", 0.9), Held("dog", 0.8)
    assert adaptive.latest(Sight(0, 3, 0.1, "a pet", (dog,), (dog,), (cat,))) == (dog,)
    assert adaptive.latest(Sight(0, 4, 0.2, "a pet", (cat,), (), (cat, dog))) == (cat,)


def test_every_trial_can_be_made() -> None:
    names = [trial.name for trial in adaptive.trials()]
    assert len(set(names)) == len(names) and names[0] == "plain" and not any("," in name for name in names)
    for trial in adaptive.trials():
        if trial.part == "creative" and trial.method != "plain":
            (method,) = adaptive._methods(trial, [["cat"], ["car"]])
            assert isinstance(method, NegativePrompt if trial.method in ("static", "replay") else AdaptiveNegatives)
        assert trial.part == "guard" or trial.method == "plain" or trial.method in adaptive.MEANINGS


def test_it_runs_and_is_reported(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def knows(images: Any, questions: Any) -> Any:
        return [
            ["yes" if question.about == "cat" else "" if question.about else "cat" for question in questions]
        ] * len(images)

    register_watcher("of_the_adaptive_bench", knows)
    monkeypatch.setattr(adaptive, "watcher", lambda: "of_the_adaptive_bench")
    monkeypatch.setattr(adaptive, "prompts", lambda: ("a pet", "a fruit"))
    monkeypatch.setattr(adaptive, "watched", lambda: (("a pet", "cat"), ("a face", "hat")))
    monkeypatch.setattr(adaptive, "GROUP", 2)
    adaptive._creative.cache_clear()
    adaptive._guarded.cache_clear()
    wanted = ("plain", "creative 1", "static 1", "replay 1", "unguarded", "guard 1")
    trials = [trial for trial in adaptive.trials() if trial.name in wanted]
    try:
        rows = run_arms(tmp_path, trials, partial(adaptive.run_trial, 2, "sd", 3, 5.0), 1)
    finally:
        adaptive._creative.cache_clear()
        adaptive._guarded.cache_clear()
    by_arm = {name: [row for row in rows if row["arm"] == name] for name in wanted}
    assert [row["lists"] for row in by_arm["creative 1"]] == [[["cat"]] * 2] * 2
    assert by_arm["replay 1"][0]["lists"] == [["cat"]] * 2
    assert by_arm["static 1"][1]["lists"] == [list(bias.KINDS["fruit"])[:2]] * 2
    pictures = {name: np.load(tmp_path / f"{name.replace(' ', '-')}.npy") for name in wanted}
    assert not (pictures["creative 1"] == pictures["plain"]).all()
    pet, face = np.split(pictures["guard 1"] == pictures["unguarded"], 2)
    assert face.all() and not pet.all(), "what is never seen is untouched, bit for bit"
    assert [row["same"] for row in by_arm["guard 1"]][2:] == [True, True]
    text = AdaptiveReport().write(rows, tmp_path, {"steps": 3})
    assert (tmp_path / "adaptive.png").stat().st_size > 1000 and (tmp_path / "adaptive.md").read_text() == text
    assert set(json.loads((tmp_path / "adaptive.json").read_text())) == {
        "format",
        "settings",
        "table",
        "differences",
        "guard",
    }
    assert "| guard 1 | a face, hat | 2 |" in text and "| static 1 |" in text
