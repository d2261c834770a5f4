"""Units that fail: memory that runs out, prompts and models that are refused, other versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from batch_parts import PLAN, model, plan_of, run_plan
from PIL import Image
from standin import standin_folder

from negguide.batch import engine
from negguide.batch.engine import run
from negguide.batch.plan import ModelPlan
from negguide.batch.store import read_table
from negguide.experiment.models import Model
from negguide.experiment.recipe import versions


def test_a_prompt_that_the_pipeline_refuses_costs_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = engine.make_unit

    def refuse(model: Model, unit: Any, tell: Any) -> Any:
        if "face" in unit.task.prompt:
            raise ValueError("no faces")
        return original(model, unit, tell)

    monkeypatch.setattr(engine, "make_unit", refuse)
    outcome = run_plan(tmp_path, methods=["plain"])
    assert outcome.missing == 3 and outcome.errors == ["plain on 'a face --no hat': ValueError: no faces"] * 2


class _Small:
    """A pipeline call that has memory for so many images only."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.calls: list[tuple[int, int | None]] = []
        from negguide.batch import make

        original = make.make

        def call(
            model: Any, settings: Any, prompt: str, methods: Any, seeds: Any, tell: Any, rows: int | None, whole: bool
        ) -> Any:
            self.calls.append((len(seeds), rows))
            if (rows or len(seeds)) > room:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return original(model, settings, prompt, methods, seeds, tell, rows, whole=whole)

        monkeypatch.setattr(make, "make", call)


def test_a_call_too_large_for_the_memory_is_halved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = _Small(monkeypatch, 1)
    outcome = run_plan(tmp_path, prompts=PLAN["prompts"][:1], methods=["perp_neg"], batch=3)
    assert small.calls == [(3, None), (1, None), (2, None), (1, None), (1, None)]
    assert outcome.errors == [] and outcome.missing == 0
    assert [row["calls"] for row in read_table(tmp_path)] == [3, 3, 3]
    assert [row["seed"] for row in read_table(tmp_path)] == [0, 1, 2]


def test_a_coupled_group_is_never_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = {"prompts": ["a pet on grass"], "methods": ["spell"], "batch": 3}
    run_plan(tmp_path / "roomy", **plan)
    small = _Small(monkeypatch, 1)
    assert run_plan(tmp_path / "small", **plan).missing == 0
    assert small.calls == [(3, None), (3, 3), (3, 1)]
    for one, other in zip(read_table(tmp_path / "roomy"), read_table(tmp_path / "small"), strict=True):
        a, b = (np.asarray(Image.open(tmp_path / n / r["file"]), int) for n, r in (("roomy", one), ("small", other)))
        assert np.abs(a - b).max() <= 1
    none = _Small(monkeypatch, 0)
    outcome = run_plan(tmp_path / "none", **plan)
    assert outcome.missing == 3 and "OutOfMemoryError" in outcome.errors[0] and none.calls[-1] == (3, 1)


def test_a_model_that_cannot_be_loaded_fails_its_units_only(tmp_path: Path) -> None:
    def load(asked: ModelPlan, device: str) -> Model:
        if asked.steps == 3:
            raise ValueError("no such model")
        return model()

    models = [{"name": standin_folder(), "steps": 3}, {"name": standin_folder()}]
    outcome = run(plan_of(tmp_path, models=models, methods=["plain"], seeds="0"), load=load)
    assert (outcome.made, outcome.missing) == (2, 2)
    assert "no such model" in outcome.errors[0]


def test_what_methods_warn_of_is_told_once(tmp_path: Path) -> None:
    outcome = run_plan(tmp_path, prompts=["a face"], methods=["plain", "negtome"], seeds="0-2", batch=1)
    (note,) = outcome.notes
    assert note.startswith("negtome: ") and "has no effect" in note


def test_other_versions_are_noted(tmp_path: Path) -> None:
    run_plan(tmp_path, methods=["plain"])
    (file,) = (tmp_path / "records").iterdir()
    now = versions()["torch"]
    file.write_text(file.read_text().replace(f'"torch": "{now}"', '"torch": "1.0"'))
    outcome = run_plan(tmp_path, methods=["plain"])
    assert outcome.made == 0 and f"torch 1.0 (now {now})" in outcome.notes[0]
