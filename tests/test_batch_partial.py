"""Measures of batches that are not finished: rows by the records, numbers on common seeds, and all of it told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batch_parts import run_plan
from PIL import Image

from negguide.batch import engine
from negguide.batch.gather import gather, look_into
from negguide.batch.measure import Measures, measure
from negguide.batch.report import write_report
from negguide.batch.store import read_table
from negguide.batch.tables import markdown, notes
from negguide.cli import main
from negguide.experiment.judges import Verdict

PLAN: dict[str, Any] = {
    "prompts": ["a pet --no cat", "a face --no hat"],
    "methods": ["plain", "perp_neg"],
    "seeds": "0-3",
    "batch": 2,
}


class _Brightness:
    """How bright each picture is, and how much the brightness differs between them."""

    name = "brightness"

    def judge(self, pictures: Any, task: Any) -> Verdict:
        bright = [float(np.asarray(picture).mean()) for picture in pictures]
        return Verdict({"presence": sum(bright) / len(bright), "vendi": max(bright) - min(bright)})


def _brightness(root: Path, row: Any) -> float:
    with Image.open(root / row["file"]) as image:
        return float(np.asarray(image.convert("RGB")).mean())


def _interrupt_after(monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    original, made = engine.make_unit, []

    def stop(*rest: Any) -> Any:
        if len(made) == calls:
            raise KeyboardInterrupt
        made.append(1)
        return original(*rest)

    monkeypatch.setattr(engine, "make_unit", stop)


@pytest.fixture
def interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A first run that was stopped after 5 of 8 calls: no table was written."""
    with monkeypatch.context() as patch:
        _interrupt_after(patch, 5)
        with pytest.raises(KeyboardInterrupt):
            run_plan(tmp_path / "batch", **PLAN)
    assert not (tmp_path / "batch" / "pictures.parquet").exists()
    return tmp_path / "batch"


def test_an_interrupted_first_run_is_measured_by_its_records(
    interrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measures = measure(interrupted, judges=[_Brightness()])
    assert list(measures.means) == ["plain", "perp_neg"] and measures.baseline == "plain"
    assert (measures.pictures, measures.planned, measures.prompts) == (10, 16, 2)
    assert "10 of the 16 pictures of the plan are made; only these are measured" in measures.notes
    assert Measures.load(interrupted) == measures
    assert main(["measure", str(interrupted)]) == 0
    assert "10 of the plan's 16 pictures" in capsys.readouterr().out
    page = write_report(interrupted).read_text()
    assert "10 of the plan&#39;s 16 pictures" in page and "only these are measured" in page
    assert "10 of the plan's 16 pictures" in (interrupted / "summary.md").read_text()


def test_an_older_table_does_not_hide_newer_pictures(interrupted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_plan(interrupted, **PLAN)
    assert len(read_table(interrupted)) == 16
    with monkeypatch.context() as patch:
        _interrupt_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            run_plan(interrupted, **{**PLAN, "seeds": "0-7"})
    assert len(read_table(interrupted)) == 16, "the table is that of the run before"
    found = look_into(interrupted)
    assert (len(found.records), found.planned) == (20, 32)
    assert "20 of the 32 pictures of the plan are made; only these are measured" in found.notes


def test_pictures_of_an_earlier_plan_are_left_out_and_told(interrupted: Path) -> None:
    run_plan(interrupted, **{**PLAN, "steps": 3, "seeds": "0-1"})
    found = look_into(interrupted)
    assert len(found.records) == 8 and {record["steps"] for record in found.records} == {3}
    assert found.notes == ("10 recorded pictures are not of this plan (an earlier one's) and are left out",)


def test_another_machine_finds_the_same_rows(interrupted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where neither the model nor the device is at hand, what was asked for tells the pictures of the plan."""
    run_plan(interrupted, **{**PLAN, "steps": 3, "seeds": "0-1"})
    run_plan(interrupted, **PLAN)
    here = gather(interrupted)
    from negguide.batch import planned

    original = planned.units
    monkeypatch.setattr(planned, "units", lambda plan, machine, content=None: original(plan, machine, lambda name: "?"))
    assert gather(interrupted) == here and len(here) == 16
    plan = json.loads((interrupted / "plan.json").read_text())
    (interrupted / "plan.json").write_text(json.dumps({**plan, "device": "cuda"}))
    with pytest.raises(ValueError, match="none of the 16 pictures of the plan"):
        gather(interrupted)


def test_a_folder_without_a_plan_is_read_by_its_records(interrupted: Path) -> None:
    (interrupted / "plan.json").unlink()
    found = look_into(interrupted)
    assert len(found.records) == 10 and found.planned is None
    assert {record["label"] for record in found.records} == {"plain", "perp_neg"}


def test_a_plan_of_which_nothing_is_made_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _interrupt_after(monkeypatch, 0)
    with pytest.raises(KeyboardInterrupt):
        run_plan(tmp_path, **PLAN)
    (tmp_path / "stray.png").write_bytes(b"")
    with pytest.raises(ValueError, match="none of the 16 pictures of the plan"):
        measure(tmp_path, judges=[_Brightness()])


def test_differences_are_on_common_seeds(tmp_path: Path) -> None:
    run_plan(tmp_path, **PLAN)
    rows = {(row["label"], row["row"], row["seed"]): row for row in read_table(tmp_path)}
    gone = [("perp_neg", 0, 1), ("plain", 0, 3), ("perp_neg", 1, 0), ("perp_neg", 1, 1)]
    for key in gone:
        (tmp_path / rows[key]["file"]).unlink()
    measures = measure(tmp_path, judges=[_Brightness()])
    bright = {key: _brightness(tmp_path, row) for key, row in rows.items() if key not in gone}
    means, spreads = [], []
    for row, seeds in ((0, (0, 2)), (1, (2, 3))):
        own, base = ([bright[label, row, seed] for seed in seeds] for label in ("perp_neg", "plain"))
        means.append(sum(own) / 2 - sum(base) / 2)
        spreads.append((max(own) - min(own)) - (max(base) - min(base)))
    found = measures.differences["perp_neg"]
    assert found["presence"].mean == pytest.approx(sum(means) / 2, abs=1e-9)
    assert found["vendi"].mean == pytest.approx(sum(spreads) / 2, abs=1e-9), (
        "a number of the set, made anew on the common seeds"
    )
    everything = [bright["plain", 0, seed] for seed in (0, 1, 2)]
    (group,) = [group for group in measures.groups if (group.label, group.row) == ("plain", 0)]
    assert group.scores["presence"] == pytest.approx(sum(everything) / 3, abs=1e-9), (
        "means are over all of its own pictures"
    )
    share = measures.shares["perp_neg"]
    assert (share.pictures, share.prompts, share.paired_pictures, share.paired_prompts) == (5, 2, 4, 2)
    told = "perp_neg: differences to plain on the 4 pictures of 2 prompts whose seeds both have"
    assert told in notes(measures) and told in markdown(measures)
    assert f"{told}</li>" in write_report(tmp_path).read_text() and ", n 2" in write_report(tmp_path).read_text()


def test_foreign_pictures_are_paired_by_their_seeds(tmp_path: Path) -> None:
    for method, values in (("plain", {1: 10, 2: 20, 3: 60}), ("ours", {2: 25, 3: 65})):
        for seed, value in values.items():
            file = tmp_path / method / f"pet_{seed:04d}.png"
            file.parent.mkdir(exist_ok=True)
            Image.new("RGB", (4, 4), (value,) * 3).save(file)
    measures = measure(tmp_path, judges=[_Brightness()], prompt="a pet")
    assert measures.differences["ours"]["presence"].mean == pytest.approx(5)
    assert measures.planned is None
    shutil.copy(
        tmp_path / "plain" / "pet_0001.png", tmp_path / "plain" / "more_0001.png"
    )  # numbers that tell nothing apart
    assert [record["seed"] for record in gather(tmp_path, prompt="a pet")] == [0, 1, 0, 1, 2, 3]


def test_the_report_shows_what_was_measured_and_not_what_came_since(interrupted: Path) -> None:
    measure(interrupted, judges=[_Brightness()])
    run_plan(interrupted, **PLAN)
    assert write_report(interrupted).read_text().count("<img ") == 10
