"""What a batch tells of itself: why pictures are made again, which are of no plan any more, and where memory ran out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from batch_parts import plan_of, run_plan

from negguide.batch import make
from negguide.batch.store import read_table
from negguide.cli import main

PLAN: dict[str, Any] = {"prompts": ["a pet"], "methods": ["plain"], "seeds": "0-2", "batch": 8}


@pytest.mark.parametrize(
    ("changes", "count", "why"),
    [
        ({"seeds": "0-3"}, 3, "other seeds share a call"),
        ({"batch": 1}, 3, "other seeds share a call"),
        ({"steps": 3}, 3, "another number of steps"),
        ({"guidance": 4}, 3, "another guidance scale"),
        ({"threads": 2}, 3, "another number of threads"),
        ({"size": "64x56", "steps": 3}, 3, "another number of steps, another size"),
    ],
)
def test_why_pictures_are_made_again_is_told(tmp_path: Path, changes: Any, count: int, why: str) -> None:
    run_plan(tmp_path, **PLAN)
    outcome = run_plan(tmp_path, **{**PLAN, **changes})
    assert any(note.startswith(f"{count} pictures are made again: {why}") for note in outcome.notes), outcome.notes
    (orphans,) = [note for note in outcome.notes if "not of this plan" in note]
    assert orphans.startswith("3 pictures there are not of this plan: pictures/")


def test_what_is_new_or_there_needs_no_reason(tmp_path: Path) -> None:
    run_plan(tmp_path, **PLAN)
    assert run_plan(tmp_path, **PLAN).notes == []
    outcome = run_plan(tmp_path, **{**PLAN, "prompts": ["a pet", "a face"], "methods": ["plain", "apg"]})
    assert outcome.made == 9 and outcome.notes == []


def test_a_dry_run_tells_it_before_anything_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_plan(tmp_path / "out", **PLAN)
    plan = plan_of(tmp_path / "out", **{**PLAN, "seeds": "0-3"})
    (tmp_path / "plan.json").write_text(json.dumps(plan.model_dump(mode="json")))
    assert main(["generate", str(tmp_path / "plan.json"), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "note: 3 pictures are made again: other seeds share a call" in printed and "not of this plan" in printed


@pytest.mark.parametrize("method", ["perp_neg:weight=1", "spell"], ids=["split", "together"])
def test_a_size_that_had_no_room_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    calls: list[tuple[int, int | None]] = []
    original = make.make

    def call(
        model: Any, settings: Any, prompt: str, methods: Any, seeds: Any, tell: Any, rows: Any, whole: bool
    ) -> Any:
        calls.append((len(seeds), rows))
        if (rows or len(seeds)) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(model, settings, prompt, methods, seeds, tell, rows, whole=whole)

    monkeypatch.setattr(make, "make", call)
    outcome = run_plan(tmp_path, prompts=["a pet --no cat"], methods=[method], seeds="0-3", batch=2)
    assert outcome.errors == [] and outcome.missing == 0
    first = [(2, None), (1, None), (1, None)] if "perp" in method else [(2, None), (2, 2), (2, 1)]
    again = [(1, None), (1, None)] if "perp" in method else [(2, 1)]
    assert calls == first + again, "the second unit begins with what worked"
    calls.clear()
    run_plan(tmp_path / "anew", prompts=["a pet --no cat"], methods=[method], seeds="0-1", batch=2)
    assert calls == first, "another run tries again: something else may have filled the memory"
    if "perp" in method:
        assert [row["calls"] for row in read_table(tmp_path)] == [2] * 4
        (note,) = outcome.notes
        assert note.startswith("memory ran out: perp_neg:weight=1 was made in 2 calls") and "rounded otherwise" in note
