"""What a comparison tells beside its pictures: arms without effect, warnings, and where an earlier run went."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import pytest
from standin import make_standin, standin_folder

from negguide.cli import main
from negguide.compare import Request, Results, compare, parse_arms
from negguide.compare.remarks import NO_EFFECT
from negguide.experiment.models import Model
from negguide.experiment.tasks import make_tasks


@pytest.fixture(scope="module")
def model() -> Model:
    return Model("stand-in", make_standin())


def _request(out: Path, methods: str, **more: Any) -> Request:
    given = {"tasks": make_tasks(["a pet on grass"], ["cat"]), "seeds": (0, 1, 4), "steps": 3, "batch": 2}
    return Request(arms=parse_arms(methods), out=out, **{**given, **more})


def test_an_arm_without_effect_says_so_in_the_report(model: Model, tmp_path: Path) -> None:
    results = compare(model, _request(tmp_path, "plain,perp_neg:weight=0,perp_neg"))
    plain, neutral, acting = results.comparisons[0].rows
    assert neutral.remarks[-1:] == [NO_EFFECT] and not plain.remarks and NO_EFFECT not in acting.remarks
    assert results.remarks == [f"perp_neg:weight=0: {NO_EFFECT}"]
    assert (tmp_path / "report.html").read_text().count(NO_EFFECT) == 1


def test_what_is_warned_of_stands_in_the_report(model: Model, tmp_path: Path) -> None:
    results = compare(model, _request(tmp_path, "plain,negtome", seeds=(0,)))
    (remark, *_) = results.comparisons[0].rows[1].remarks
    assert "num_images_per_prompt" in remark
    assert remark in html.unescape((tmp_path / "report.html").read_text())


def test_an_earlier_run_is_set_aside_whole(model: Model, tmp_path: Path) -> None:
    first = compare(model, _request(tmp_path, "plain,perp_neg"))
    (tmp_path / "mine.txt").write_text("of somebody else")
    before = {file.relative_to(tmp_path): file.read_bytes() for file in tmp_path.rglob("*.png")}
    second = compare(model, _request(tmp_path, "plain"))
    assert first.earlier is None and second.earlier is not None
    place = tmp_path / second.earlier
    assert {file.relative_to(place): file.read_bytes() for file in place.rglob("*.png")} == before
    assert Results.load(place) == first and (place / "report.html").is_file()
    assert not list(tmp_path.glob("*/perp_neg")) and (tmp_path / "mine.txt").is_file()
    third = compare(model, _request(tmp_path, "plain"))
    assert third.earlier != second.earlier and len(list((tmp_path / "earlier").iterdir())) == 2


def test_a_warning_that_belongs_to_no_row_is_told_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*args: Any) -> None:
        raise OSError("no ink")

    monkeypatch.setattr("negguide.compare.sheet.write_sheet", cannot)
    words = ["compare", "a pet", "-n", "cat", "-m", "plain", "--seeds", "0", "--steps", "2", "--out", str(tmp_path)]
    assert main([*words, "--model", standin_folder()]) == 0
    assert "negguide: the contact sheet of 'a pet' could not be drawn (OSError: no ink)" in capsys.readouterr().err
