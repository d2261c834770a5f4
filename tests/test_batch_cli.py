"""`negguide generate` from the command line: what it prints, its exit codes, and one picture again."""

from __future__ import annotations

import html
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from standin import standin_folder

import negguide
from negguide.batch.read import load_preset, presets
from negguide.batch.store import read_table
from negguide.cli import main


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    file = tmp_path / "plan.json"
    file.write_text(
        json.dumps(
            {
                "model": standin_folder(),
                "prompts": ["a pet on grass --no cat", "a face --no hat@0-0.5"],
                "methods": ["plain", "perp_neg"],
                "seeds": "0-2",
                "batch": 3,
                "steps": 2,
                "output": str(tmp_path / "out"),
                "exports": ["geneval", "webdataset"],
            }
        )
    )
    return file


def test_generate_measures_reports_and_makes_one_picture_again(
    plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert main(["generate", str(plan)]) == 0
    printed = capsys.readouterr().out
    assert "12 of 12 pictures are in" in printed and "12 made here" in printed and "perp_neg" in printed
    for name in (
        "report.html",
        "summary.md",
        "summary.csv",
        "measures.json",
        "pictures.parquet",
        "pictures.tar",
        "geneval",
    ):
        assert (out / name).exists()
    monkeypatch.chdir(tmp_path)
    page = html.unescape((out / "report.html").read_text())
    row = read_table(out)[-1]
    (command,) = [
        line for line in page.splitlines() if line.startswith("negguide generate") and row["key"][:12] in line
    ]
    assert main(shlex.split(command.split('"')[0])[1:]) == 0  # as the page says it, in a shell
    made = {file.name: file for file in (tmp_path / "again").rglob("*.png")}
    assert made[Path(row["file"]).name].read_bytes() == (out / row["file"]).read_bytes()
    assert {Path(one["file"]).name for one in read_table(out)[-3:]} == set(made), "its call, and nothing else"
    assert main(["generate", str(out), "--no-report"]) == 0
    assert "12 were there, 0 made here" in capsys.readouterr().out


def test_a_dry_run_says_what_it_costs_and_makes_nothing(
    plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", str(plan), "--dry-run", "--seeds", "0-5", "--steps", "4"]) == 0
    printed = capsys.readouterr().out
    assert "1 model(s) x 2 prompts x 2 methods x 6 seeds" in printed
    assert "24, of which 24 are to be made in 8 calls" in printed
    plain, whole, half = 6 * 4 * 2, 6 * 4 * 3, 6 * (2 * 3 + 2 * 2)
    assert f"about {2 * plain + whole + half}" in printed
    assert "by a call of 2 steps" in printed
    assert not list((tmp_path / "out").rglob("*.png"))


def test_a_failing_method_gives_1_and_the_rest_is_there(
    plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def combine(self: Any, guidance: Any, state: Any) -> None:
        raise RuntimeError("out of patience")

    monkeypatch.setattr(negguide.PerpNeg, "combine", combine)
    assert main(["generate", str(plan)]) == 1
    printed = capsys.readouterr()
    assert printed.err.count("negguide: failed: perp_neg on") == 2 and "6 of 12 pictures" in printed.out
    page = (tmp_path / "out" / "report.html").read_text()
    assert "2 failed" in page and page.count("out of patience") == 2 and page.count("<img ") == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate"], "no prompt"),
        (["generate", "none.yaml"], "cannot be read"),
        (["generate", "--preset", "none"], "unknown preset 'none'"),
        (["generate", "plan.json", "--preset", "easy-hard"], "one of them is enough"),
        (["generate", "plan.json", "--methods", "perpneg"], "did you mean 'perp_neg'"),
        (["generate", "plan.json", "--seeds", "x"], "seeds are 'x'"),
        (["generate", "plan.json", "--only", "zz", "--no-report"], "no picture of this plan has a key"),
        (["generate", "plan.json", "--device", "toaster"], "unknown device 'toaster'"),
        (["measure", "nothing"], "no folder 'nothing'"),
        (["report", "nothing"], "has no readable measures.json"),
        (["report", "nothing", "--export", "zip"], "unknown export 'zip'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    arguments: list[str], message: str, plan: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(plan.parent)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_interrupted_gives_130_and_frees_what_it_held(
    plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def combine(self: Any, guidance: Any, state: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(negguide.PerpNeg, "combine", combine)
        assert main(["generate", str(plan)]) == 130
    assert "what was made stays" in capsys.readouterr().err
    assert main(["generate", str(plan), "--no-report"]) == 0
    assert "3 were there, 9 made here" in capsys.readouterr().out


@pytest.mark.parametrize("preset", sorted(presets()))
def test_every_preset_can_be_tried_dry(
    preset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.jsonl").write_text('{"tag": "single_object", "include": [], "prompt": "a photo of a cat"}\n')
    prompts = ["--prompts", "p.jsonl"] if preset == "fsg-geneval" else []
    model = ["--model", standin_folder(), "--device", "cpu"]
    assert main(["generate", "--preset", preset, *prompts, *model, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    plan = load_preset(preset, {"prompts": [{"file": str(tmp_path / "p.jsonl")}]} if prompts else {})
    total = len(plan.prompts) * len(plan.variants()) * len(plan.seeds)
    assert f"pictures          {total}, of which {total} are to be made" in printed
    assert int(re.search(r"denoiser passes   about (\d+)", printed)[1]) >= total  # type: ignore[index]
    assert "unknown before the first picture" not in printed


def test_presets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--preset", "list"]) == 0
    assert "easy-hard" in capsys.readouterr().out
