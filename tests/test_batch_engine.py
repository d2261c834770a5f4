"""Runs of the engine on a stand-in pipeline: the same files whatever happens on the way."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from standin import make_standin, standin_folder

import negguide as ng
from negguide.batch import engine
from negguide.batch.engine import Outcome, run
from negguide.batch.plan import ModelPlan, Plan
from negguide.batch.read import load_plan
from negguide.batch.store import Store, read_table
from negguide.batch.variants import couples
from negguide.compare.models import Model
from negguide.compare.recipe import versions

FORK = multiprocessing.get_context("fork")  # a fork has the model already, so that a crash costs no start
PLAN: dict[str, Any] = {
    "prompts": ["a pet on grass --no cat", "a face --no hat"],
    "methods": ["plain", {"use": "perp_neg", "sweep": {"weight": [1, 2]}}],
    "seeds": "0-2",
    "batch": 2,
    "steps": 2,
}
PICTURES = 2 * 3 * 3

_model: list[Model] = []


def _load(model: ModelPlan, device: str) -> Model:
    return _model[0]


@pytest.fixture(scope="module", autouse=True)
def _one_model() -> None:
    _model[:] = [Model("stand-in", make_standin())]


def _plan(out: Path, **changes: Any) -> Plan:
    return load_plan(None, {**PLAN, "models": standin_folder(), "output": str(out), **changes})


def _run(out: Path, **changes: Any) -> Outcome:
    return run(_plan(out, **changes), load=_load)


def _files(out: Path) -> dict[str, bytes]:
    """Everything but the records of who made what and when."""
    files = {file.relative_to(out).as_posix(): file.read_bytes() for file in out.rglob("*") if file.is_file()}
    plan = json.loads(files.pop("plan.json"))
    assert Path(plan.pop("output")) == out
    return {
        name: data for name, data in files.items() if not name.startswith("records/") and name != "pictures.parquet"
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    outcome = _run(out)
    assert (outcome.pictures, outcome.there, outcome.made, outcome.missing) == (PICTURES, 0, PICTURES, 0)
    assert outcome.errors == [] and outcome.is_main
    return out


def test_pictures_hold_what_made_them_and_nothing_of_the_run(undisturbed: Path) -> None:
    rows = read_table(undisturbed)
    assert len(rows) == len(_files(undisturbed)) == PICTURES
    for row in rows:
        with Image.open(undisturbed / row["file"]) as image:
            text: dict[str, str] = dict(image.text)
            pixels = np.asarray(image)
        assert text["prompt"] == row["prompt"] and text["seed"] == str(row["seed"]) and text["key"] == row["key"]
        assert json.loads(text["group"]) == row["group"] and row["seed"] in row["group"]
        assert json.loads(text["trace"]) == row["trace"]
        assert sum((run["steps"][1] - run["steps"][0] + 1) * run["passes"] for run in row["trace"]) == row["passes"]
        assert [ng.from_dict(one) for one in json.loads(text["methods"])] == [
            ng.from_dict(one) for one in row["methods"]
        ]
        assert set(text) & {"seconds", "time", "rank", "worker"} == set()
        assert {"seconds", "time", "rank", "worker"} <= set(row) and row["seconds"] > 0
        assert pixels.shape == (64, 64, 3)
    assert [row["passes"] for row in rows[:9:3]] == [4, 6, 6]
    assert not (undisturbed / "claims").exists()


def test_a_picture_is_that_of_its_call(undisturbed: Path) -> None:
    row = next(row for row in read_table(undisturbed) if row["label"] == "perp_neg:weight=2" and row["seed"] == 1)
    with ng.attach(_model[0].pipe, ng.PerpNeg([("cat", 2)])):
        noise = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
        made = (
            _model[0].pipe("a pet on grass", num_inference_steps=2, num_images_per_prompt=2, generator=noise).images[1]
        )
    with Image.open(undisturbed / row["file"]) as image:
        assert np.array_equal(np.asarray(image), np.asarray(made))


def test_run_again_makes_nothing(undisturbed: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in undisturbed.rglob("*.png")}
    outcome = run(_plan(undisturbed), load=_fails)
    assert (outcome.there, outcome.made, outcome.missing) == (PICTURES, 0, 0)
    assert {file: file.stat().st_mtime_ns for file in undisturbed.rglob("*.png")} == before


def test_order_and_parts_of_a_plan_do_not_change_pictures(undisturbed: Path, tmp_path: Path) -> None:
    methods = [{"use": "perp_neg", "sweep": {"weight": [2, 1]}}, "plain"]
    _run(tmp_path / "turned", prompts=PLAN["prompts"][::-1], methods=methods)
    assert _files(tmp_path / "turned") == _files(undisturbed)
    _run(tmp_path / "part", prompts=PLAN["prompts"][1:], methods=["plain"], seeds="0-1")
    part = _files(tmp_path / "part")
    assert len(part) == 2 and part.items() <= _files(undisturbed).items()


def test_the_size_of_a_call_changes_roundings_only(undisturbed: Path, tmp_path: Path) -> None:
    _run(tmp_path, batch=1)
    for one, other in zip(read_table(undisturbed), read_table(tmp_path), strict=True):
        assert (one["label"], one["seed"]) == (other["label"], other["seed"])
        assert (one["key"] == other["key"]) == (one["group"] == [2])  # the last of three is alone in both
        a, b = (np.asarray(Image.open(out / row["file"]), int) for out, row in ((undisturbed, one), (tmp_path, other)))
        assert np.abs(a - b).max() <= 1


def _die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _at(name: str, count: int, owner: Any, before: bool = True) -> Callable[[], None]:
    """Make the process die at the `count`-th call of a function, before or after it does its work."""

    def arm() -> None:
        original, left = getattr(owner, name), [count]

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] == 0 and before:
                _die()
            value = original(*args, **kwargs)
            if left[0] == 0:
                _die()
            return value

        setattr(owner, name, wrapped)

    return arm


def _half_a_line() -> None:
    def torn(self: Store, records: Any) -> None:
        file = self.root / "records" / f"{self._worker}.jsonl"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(next(iter(records)))[:50])
        _die()

    Store.record = torn  # type: ignore[method-assign]  # in the forked process only


CRASHES = {
    "before a picture has its name": _at("replace", 4, os),
    "between picture and record": _at("replace", 6, os, before=False),
    "amid a record": _half_a_line,
    "with a claim and no picture": _at("make_unit", 3, engine),
    "between record and the end of the claim": _at("finish", 5, engine.Claims),
    "before the table": _at("merge", 1, Store),
}


@pytest.mark.parametrize("crash", CRASHES)
def test_killed_and_resumed_gives_the_same_bytes(crash: str, undisturbed: Path, tmp_path: Path) -> None:
    def doomed() -> None:
        CRASHES[crash]()
        _run(tmp_path)

    worker = FORK.Process(target=doomed)
    worker.start()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    for file in tmp_path.rglob("*.png"):
        Image.open(file).load()  # none is torn
    outcome = _run(tmp_path)
    assert outcome.missing == 0 and (outcome.there < PICTURES) == (crash != "before the table")
    assert _files(tmp_path) == _files(undisturbed)
    assert len(read_table(tmp_path)) == PICTURES


def test_two_processes_share_the_work_and_give_the_same_files(undisturbed: Path, tmp_path: Path) -> None:
    workers = [FORK.Process(target=_run, args=(tmp_path,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert _files(tmp_path) == _files(undisturbed)
    lines = [json.loads(line) for file in (tmp_path / "records").iterdir() for line in file.read_text().splitlines()]
    assert sorted(line["key"] for line in lines) == sorted(row["key"] for row in read_table(undisturbed))


def test_the_living_take_over_from_the_dead(undisturbed: Path, tmp_path: Path) -> None:
    def doomed() -> None:
        CRASHES["with a claim and no picture"]()
        _run(tmp_path)

    other = FORK.Process(target=_run, args=(tmp_path,))
    worker = FORK.Process(target=doomed)
    worker.start()
    other.start()
    worker.join()
    other.join()
    assert other.exitcode == 0
    assert _files(tmp_path) == _files(undisturbed)


def test_damaged_pictures_are_made_again_and_only_those(undisturbed: Path, tmp_path: Path) -> None:
    _run(tmp_path)
    whole = _files(tmp_path)
    torn, altered, gone = (tmp_path / row["file"] for row in read_table(tmp_path)[::7])
    torn.write_bytes(torn.read_bytes()[:-100])
    with Image.open(altered) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(altered)
    gone.unlink()
    outcome = _run(tmp_path)
    assert PICTURES - 6 <= outcome.there == PICTURES - outcome.made < PICTURES - 2
    assert _files(tmp_path) == whole == _files(undisturbed)


def test_a_failing_method_is_recorded_and_tried_again(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def combine(self: Any, guidance: Any, state: Any) -> None:
        raise RuntimeError("out\nof patience")

    with monkeypatch.context() as patch:
        patch.setattr(ng.PerpNeg, "combine", combine)
        outcome = _run(tmp_path)
    assert outcome.made == outcome.pictures - outcome.missing == 6
    assert outcome.errors[0] == "perp_neg:weight=1 on 'a pet on grass --no cat': RuntimeError: out of patience"
    assert len(outcome.errors) == 8 == len(Store(tmp_path).failures)
    assert {row["label"] for row in read_table(tmp_path)} == {"plain"}
    assert _run(tmp_path).missing == 0
    assert _files(tmp_path) == _files(undisturbed)


def test_a_prompt_that_the_pipeline_refuses_costs_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = engine.make_unit

    def refuse(model: Model, unit: Any, tell: Any) -> Any:
        if "face" in unit.task.prompt:
            raise ValueError("no faces")
        return original(model, unit, tell)

    monkeypatch.setattr(engine, "make_unit", refuse)
    outcome = _run(tmp_path, methods=["plain"])
    assert outcome.missing == 3 and outcome.errors == ["plain on 'a face --no hat': ValueError: no faces"] * 2


def test_a_full_disk_is_told_and_the_rest_goes_on(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, left = Store.put, [3]

    def full(self: Store, unit: Any, seed: int, data: bytes) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise OSError(28, "No space left on device")
        return original(self, unit, seed, data)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", full)
        outcome = _run(tmp_path)
    assert outcome.missing == 1 and "No space left" in outcome.errors[0] and len(outcome.errors) == 1
    assert _run(tmp_path).missing == 0
    assert _files(tmp_path) == _files(undisturbed)


class _Small:
    """A pipeline call that has memory for so many images only."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.calls: list[tuple[int, int | None]] = []
        from negguide.batch import make

        original = make.make

        def call(model: Any, settings: Any, prompt: str, methods: Any, seeds: Any, tell: Any, rows: int | None) -> Any:
            self.calls.append((len(seeds), rows))
            if (rows or len(seeds)) > room:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return original(model, settings, prompt, methods, seeds, tell, rows)

        monkeypatch.setattr(make, "make", call)


def test_a_call_too_large_for_the_memory_is_halved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = _Small(monkeypatch, 1)
    outcome = _run(tmp_path, prompts=PLAN["prompts"][:1], methods=["perp_neg"], batch=3)
    assert small.calls == [(3, None), (1, None), (2, None), (1, None), (1, None)]
    assert outcome.errors == [] and outcome.missing == 0
    assert [row["calls"] for row in read_table(tmp_path)] == [3, 3, 3]
    assert [row["seed"] for row in read_table(tmp_path)] == [0, 1, 2]


def test_a_coupled_group_is_never_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert couples([ng.SPELL()]) and not couples([ng.PerpNeg("cat"), ng.APG()])
    plan = {"prompts": ["a pet on grass"], "methods": ["spell"], "batch": 3}
    _run(tmp_path / "roomy", **plan)
    small = _Small(monkeypatch, 1)
    assert _run(tmp_path / "small", **plan).missing == 0
    assert small.calls == [(3, None), (3, 3), (3, 1)]
    for one, other in zip(read_table(tmp_path / "roomy"), read_table(tmp_path / "small"), strict=True):
        a, b = (np.asarray(Image.open(tmp_path / n / r["file"]), int) for n, r in (("roomy", one), ("small", other)))
        assert np.abs(a - b).max() <= 1
    none = _Small(monkeypatch, 0)
    outcome = _run(tmp_path / "none", **plan)
    assert outcome.missing == 3 and "OutOfMemoryError" in outcome.errors[0] and none.calls[-1] == (3, 1)


def test_a_model_that_cannot_be_loaded_fails_its_units_only(tmp_path: Path) -> None:
    def load(model: ModelPlan, device: str) -> Model:
        if model.steps == 3:
            raise ValueError("no such model")
        return _model[0]

    models = [{"name": standin_folder(), "steps": 3}, {"name": standin_folder()}]
    outcome = run(_plan(tmp_path, models=models, methods=["plain"], seeds="0"), load=load)
    assert (outcome.made, outcome.missing) == (2, 2)
    assert "no such model" in outcome.errors[0]


def test_other_versions_are_noted(tmp_path: Path) -> None:
    _run(tmp_path, methods=["plain"])
    (file,) = (tmp_path / "records").iterdir()
    now = versions()["torch"]
    file.write_text(file.read_text().replace(f'"torch": "{now}"', '"torch": "1.0"'))
    outcome = _run(tmp_path, methods=["plain"])
    assert outcome.made == 0 and f"torch 1.0 (now {now})" in outcome.notes[0]


def _fails(model: ModelPlan, device: str) -> Model:
    raise AssertionError("nothing is to be made, so no model is needed")
