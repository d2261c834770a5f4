"""Runs of the engine on a stand-in pipeline: the same files whatever happens on the way."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from batch_parts import PICTURES, PLAN, model, plan_of, run_plan
from PIL import Image

import negguide as ng
from negguide.batch import engine
from negguide.batch.engine import run
from negguide.batch.plan import ModelPlan
from negguide.batch.store import Store, read_table
from negguide.experiment.models import Model

FORK = multiprocessing.get_context("fork")  # a fork has the model already, so that a crash costs no start


@pytest.fixture(scope="module", autouse=True)
def _one_model() -> None:
    model()  # before any fork


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
    outcome = run_plan(out)
    assert (outcome.pictures, outcome.there, outcome.made, outcome.missing) == (PICTURES, 0, PICTURES, 0)
    assert outcome.errors == [] and outcome.is_main
    return out


def test_pictures_hold_what_made_them_and_nothing_of_therun_plan(undisturbed: Path) -> None:
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
    with ng.attach(model().pipe, ng.PerpNeg([("cat", 2)])):
        noise = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
        made = model().pipe("a pet on grass", num_inference_steps=2, num_images_per_prompt=2, generator=noise).images[1]
    with Image.open(undisturbed / row["file"]) as image:
        assert np.array_equal(np.asarray(image), np.asarray(made))


def test_a_run_has_the_plans_threads_and_gives_them_back(tmp_path: Path) -> None:
    seen = []

    def looking(asked: ModelPlan, device: str) -> Model:
        seen.append(torch.get_num_threads())
        return model()

    before = torch.get_num_threads()
    plan = plan_of(tmp_path, threads=before + 1, methods=["plain"], seeds="0", prompts=["a face"])
    run(plan, load=looking)
    assert seen == [before + 1] and torch.get_num_threads() == before
    assert read_table(tmp_path)[0]["hardware"]


def test_run_again_makes_nothing(undisturbed: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in undisturbed.rglob("*.png")}
    outcome = run(plan_of(undisturbed), load=_fails)
    assert (outcome.there, outcome.made, outcome.missing) == (PICTURES, 0, 0)
    assert {file: file.stat().st_mtime_ns for file in undisturbed.rglob("*.png")} == before


def test_order_and_parts_of_a_plan_do_not_change_pictures(undisturbed: Path, tmp_path: Path) -> None:
    methods = [{"use": "perp_neg", "sweep": {"weight": [2, 1]}}, "plain"]
    run_plan(tmp_path / "turned", prompts=PLAN["prompts"][::-1], methods=methods)
    assert _files(tmp_path / "turned") == _files(undisturbed)
    run_plan(tmp_path / "part", prompts=PLAN["prompts"][1:], methods=["plain"], seeds="0-1")
    part = _files(tmp_path / "part")
    assert len(part) == 2 and part.items() <= _files(undisturbed).items()


def test_the_size_of_a_call_changes_roundings_only(undisturbed: Path, tmp_path: Path) -> None:
    run_plan(tmp_path, batch=1)
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
    "when 80 % are made": _at("make_unit", 10, engine),  # of 12
    "before the table": _at("merge", 1, Store),
}


@pytest.mark.parametrize("crash", CRASHES)
def test_killed_and_resumed_gives_the_same_bytes(crash: str, undisturbed: Path, tmp_path: Path) -> None:
    def doomed() -> None:
        CRASHES[crash]()
        run_plan(tmp_path)

    worker = FORK.Process(target=doomed)
    worker.start()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    for file in tmp_path.rglob("*.png"):
        Image.open(file).load()  # none is torn
    outcome = run_plan(tmp_path)
    assert outcome.missing == 0 and (outcome.there < PICTURES) == (crash != "before the table")
    assert _files(tmp_path) == _files(undisturbed)
    assert len(read_table(tmp_path)) == PICTURES


def test_two_processes_share_the_work_and_give_the_same_files(undisturbed: Path, tmp_path: Path) -> None:
    workers = [FORK.Process(target=run_plan, args=(tmp_path,)) for _ in range(2)]
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
        run_plan(tmp_path)

    other = FORK.Process(target=run_plan, args=(tmp_path,))
    worker = FORK.Process(target=doomed)
    worker.start()
    other.start()
    worker.join()
    other.join()
    assert other.exitcode == 0
    assert _files(tmp_path) == _files(undisturbed)


def test_damaged_pictures_are_made_again_and_only_those(undisturbed: Path, tmp_path: Path) -> None:
    run_plan(tmp_path)
    whole = _files(tmp_path)
    torn, altered, gone = (tmp_path / row["file"] for row in read_table(tmp_path)[::7])
    torn.write_bytes(torn.read_bytes()[:-100])
    with Image.open(altered) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(altered)
    gone.unlink()
    outcome = run_plan(tmp_path)
    assert PICTURES - 6 <= outcome.there == PICTURES - outcome.made < PICTURES - 2
    assert _files(tmp_path) == whole == _files(undisturbed)


def test_a_failing_method_is_recorded_and_tried_again(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def combine(self: Any, guidance: Any, state: Any) -> None:
        raise RuntimeError("out\nof patience")

    with monkeypatch.context() as patch:
        patch.setattr(ng.PerpNeg, "combine", combine)
        outcome = run_plan(tmp_path)
    assert outcome.made == outcome.pictures - outcome.missing == 6
    assert outcome.errors[0] == "perp_neg:weight=1 on 'a pet on grass --no cat': RuntimeError: out of patience"
    assert len(outcome.errors) == 8 == len(Store(tmp_path).failures)
    assert {row["label"] for row in read_table(tmp_path)} == {"plain"}
    assert run_plan(tmp_path).missing == 0
    assert _files(tmp_path) == _files(undisturbed)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
@pytest.mark.parametrize("owner", ["pictures", "records", "claims"])
def test_a_disk_that_takes_nothing_more_stops_the_run(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, owner: str
) -> None:
    calls: list[int] = []
    make_unit = engine.make_unit

    def counted(*rest: Any) -> Any:
        calls.append(1)
        return make_unit(*rest)

    what, name, at = {"pictures": (Store, "put", 3), "records": (Store, "record", 2), "claims": (os, "link", 2)}[owner]
    original, left = getattr(what, name), [at]

    def full(*rest: Any) -> Any:
        left[0] -= 1
        if left[0] <= 0:
            raise OSError(number, os.strerror(number))
        return original(*rest)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "make_unit", counted)
        patch.setattr(what, name, full)
        outcome = run_plan(tmp_path)
    assert len(calls) == (1 if owner == "claims" else 2), "no call whose pictures could not be kept"
    (told,) = outcome.errors
    assert told.startswith("stopped: nothing more can be written") and os.strerror(number) in told
    assert outcome.missing == PICTURES - outcome.made > 0
    assert run_plan(tmp_path).missing == 0
    assert _files(tmp_path) == _files(undisturbed)


def test_no_call_is_begun_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.shutil, "disk_usage", lambda place: SimpleNamespace(free=1000))
    outcome = run(plan_of(tmp_path), load=_fails)
    assert outcome.missing == PICTURES and "less than 1 MiB are free" in outcome.errors[0]


def test_a_hung_process_is_overtaken_and_hurts_nobody_when_it_wakes(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = tmp_path / "gate"

    def hang() -> None:
        original, calls = engine.make_unit, []

        def stuck(*rest: Any) -> Any:
            calls.append(1)
            until = time.monotonic() + 20
            while len(calls) == 2 and not gate.exists() and time.monotonic() < until:
                time.sleep(0.01)
            if time.monotonic() >= until:
                (tmp_path / "never overtaken").touch()
            return original(*rest)

        engine.make_unit = stuck
        run_plan(tmp_path / "batch")

    worker = FORK.Process(target=hang)
    worker.start()
    while len(list(tmp_path.rglob("*.png"))) < 2:
        time.sleep(0.01)
    outcome = run_plan(tmp_path / "batch", lease=1 / 600)  # a tenth of a second
    assert outcome.missing == 0 and not (tmp_path / "never overtaken").exists() and worker.is_alive()
    gate.touch()
    worker.join()
    assert worker.exitcode == 0
    assert _files(tmp_path / "batch") == _files(undisturbed)
    assert len(read_table(tmp_path / "batch")) == PICTURES


def _fails(model: ModelPlan, device: str) -> Model:
    raise AssertionError("nothing is to be made, so no model is needed")
