"""A vision-language model as judge: what it is asked, what its answers count for, and that oracles keep the first word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from negguide.batch.measure import measure
from negguide.batch.more import More
from negguide.cli import main
from negguide.experiment.asked import AT_ONCE, AskedJudge
from negguide.experiment.judges import Verdict
from negguide.experiment.tasks import make_tasks
from negguide.watchers import register_watcher


def pictures(count: int) -> list[Image.Image]:
    """Pictures whose grey tells their place."""
    return [Image.new("RGB", (4, 4), (place,) * 3) for place in range(count)]


def told(answers: list[list[Any]]) -> Any:
    """A watcher that answers picture `place` with `answers[place % n]`, whatever its company; it remembers."""

    def watcher(images: Any, questions: Any) -> Any:
        watcher.asked.append((len(images), [str(question) for question in questions]))  # type: ignore[attr-defined]
        return [answers[int(np.asarray(image)[0, 0, 0]) % len(answers)] for image in images]

    watcher.asked = []  # type: ignore[attr-defined]
    return watcher


def test_what_is_asked_and_what_it_counts_for() -> None:
    watcher = told([["yes", "no", "Yes."], ["no", "no", "there is no hat"], ["a pet", "cat", "no"], ["yes", "", "no"]])
    register_watcher("asked_for_tests", watcher)
    (task,) = make_tasks(["a pet on grass"], ["cat", "hat"])
    count = AT_ONCE + 4
    verdict = AskedJudge("asked_for_tests").judge(pictures(count), task)
    assert [size for size, _ in watcher.asked] == [AT_ONCE, 4]
    assert watcher.asked[0][1] == [
        "Is there a pet in the picture?", "Is there a cat in the picture?", "Is there a hat in the picture?"
    ]  # fmt: skip
    assert verdict.each == {
        "presence of cat": [0.0, 0.0, 1.0, 0.0] * (count // 4),
        "presence of hat": [1.0, 0.0, 0.0, 0.0] * (count // 4),
    }
    assert verdict.scores == {
        "subject": 0.75, "asked_subject": 0.75, "presence": 0.5, "asked_presence": 0.5, "asked_clean": 0.25
    }  # fmt: skip
    assert verdict.shows_negative == [True, False, True, False] * (count // 4)


def test_models_that_talk_give_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = told([["yes", "I would say 8 out of 10"], ["yes", "7.5"], ["no", "it is fine"], ["no", "100"]])
    monkeypatch.setattr("negguide.experiment.asked.as_watcher", lambda name: watcher)
    (task,) = make_tasks(["a pet"], [])
    verdict = AskedJudge("chat:some/model").judge(pictures(4), task)
    assert "from 0 (broken) to 10" in watcher.asked[0][1][-1]
    assert verdict.scores == {"subject": 0.5, "asked_subject": 0.5, "asked_quality": pytest.approx((0.8 + 0.75) / 2)}
    monkeypatch.setattr("negguide.experiment.asked.as_watcher", lambda name: told([["yes"]]))
    assert AskedJudge("vqa:some/model").judge(pictures(1), task).scores.keys() == {"subject", "asked_subject"}


class _Knows:
    """An oracle to which every picture shows everything."""

    name, knows_the_truth = "oracle", True

    def judge(self, pictures: Any, task: Any) -> Verdict:
        return Verdict({"presence": 1.0, "subject": 1.0})


class _Guesses(_Knows):
    name, knows_the_truth = "guess", False


@pytest.mark.parametrize(("other", "wanted"), [(_Knows, 1.0), (_Guesses, 0.0)])
def test_an_oracle_has_the_first_word_and_a_guess_none(tmp_path: Path, other: Any, wanted: float) -> None:
    register_watcher("never", told([["no", "no"]]))
    for method in ("plain", "ours"):
        (tmp_path / method).mkdir()
        pictures(1)[0].save(tmp_path / method / "0.png")
    found = measure(tmp_path, prompt="a pet", negatives=["cat"], judges=[other()], more=More(judge="never"))
    assert found.means["ours"]["presence"].mean == wanted and found.means["ours"]["asked_presence"].mean == 0.0
    assert found.means["ours"]["asked_presence"].high is not None, "a share has Wilson's interval"
    assert "never, asked" in found.judge


def test_the_command_asks_the_bundled_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On renders the bundled watcher sees what is there."""
    from negguide.toybox.world.render import render
    from negguide.toybox.world.sample import sample_scene

    rng = np.random.default_rng(2)
    for method, kind in (("cats", "cat"), ("birds", "bird")):
        (tmp_path / method).mkdir()
        for seed in range(3):
            scene = sample_scene(rng, kind=kind, background="grass", count=1, style="clean", size="large")
            Image.fromarray(render(scene)).save(tmp_path / method / f"{seed}.png")
    options = ["--prompt", "a pet", "-n", "cat", "--clip", "toybox", "--judge", "vqa:toybox"]
    assert main(["measure", str(tmp_path), *options]) == 0
    out = capsys.readouterr().out
    assert "negative seen" in out and "gone and kept" in out
    summary = (tmp_path / "summary.csv").read_text().splitlines()
    found = {tuple(line.split(",")[:2]): float(line.split(",")[2]) for line in summary[1:]}
    assert (found["cats", "asked_presence"], found["birds", "asked_presence"]) == (1.0, 0.0)
    assert found["cats", "asked_clean"] == 0.0 and found["birds", "asked_clean"] > 0.5
    assert main(["measure", str(tmp_path), "--judge", "nobody"]) == 2
    assert "no watcher is called 'nobody'" in capsys.readouterr().err
