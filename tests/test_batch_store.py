"""Claims and records: what happens when processes die, disks fill and files are damaged. No pipeline is run here."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from negguide.batch.claims import Claims
from negguide.batch.plan import Plan
from negguide.batch.read import load_plan
from negguide.batch.store import Store, read_table
from negguide.batch.units import Machine, Unit, units

FORK = multiprocessing.get_context("fork")


def _plan(root: Path, seeds: str = "0-3", **changes: Any) -> Plan:
    return load_plan(None, {"prompts": ["a face --no hat"], "seeds": seeds, "output": str(root), "batch": 2, **changes})


def _units(plan: Plan) -> list[Unit]:
    return list(units(plan, Machine("cpu", "float32")))


def _fill(store: Store, found: list[Unit]) -> None:
    for unit in found:
        store.record(
            [{**store.put(unit, seed, f"picture {unit.key(seed)}".encode()), "time": "1"} for seed in unit.seeds]
        )


def test_a_unit_is_handed_out_once(tmp_path: Path) -> None:
    with Claims(tmp_path) as one, Claims(tmp_path) as two:
        assert one.take("a") == "mine" and two.take("a") == "busy" and two.take("b") == "mine"
        assert one.others() and two.others()
        one.finish("a")
        assert two.take("a") == "done" and one.take("b") == "busy"
    with Claims(tmp_path) as three:  # a later run looks at the pictures itself, and may make a unit again
        assert not three.others()
        assert three.take("a") == "mine" and three.take("b") == "mine"


def test_many_processes_never_get_the_same_unit(tmp_path: Path) -> None:
    names = [f"{place:02d}" for place in range(40)]

    def work(place: int) -> None:
        with Claims(tmp_path) as claims:
            mine = []
            for name in names:
                if claims.take(name) == "mine":
                    mine.append(name)
                    claims.finish(name)
            (tmp_path / f"{place}.json").write_text(json.dumps(mine))

    workers = [FORK.Process(target=work, args=(place,)) for place in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    taken = [name for place in range(4) for name in json.loads((tmp_path / f"{place}.json").read_text())]
    # One that looked before the others began may hold what they finished for failed, and do it again: never while they work.
    assert set(taken) == set(names)


@pytest.mark.parametrize("reap", [True, False])
def test_a_dead_process_loses_its_claims_at_once(tmp_path: Path, reap: bool) -> None:
    def hold() -> None:
        claims = Claims(tmp_path)
        claims.__enter__()
        claims.take("a")
        (tmp_path / "ready").touch()
        time.sleep(60)

    worker = FORK.Process(target=hold)
    worker.start()
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    with Claims(tmp_path) as claims, Claims(tmp_path) as other:
        assert claims.take("a") == "busy" and claims.others()
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        if reap:
            worker.join()
        else:
            os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet buried by its parent
        assert [claims.take("a"), other.take("a")] == ["mine", "busy"]
    worker.join()


def test_of_another_machine_only_the_signs_of_life_count(tmp_path: Path) -> None:
    with Claims(tmp_path) as far, Claims(tmp_path, dead_after=30) as here:
        file = tmp_path / "claims" / "workers" / f"{far.name}.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "host": "elsewhere", "pid": 1}))
        far.take("a")
        assert here.take("a") == "busy"
        old = time.time() - 31
        os.utime(file, (old, old))
        assert here.take("a") == "mine"


def test_what_is_damaged_or_not_recorded_is_missing(tmp_path: Path) -> None:
    found = _units(_plan(tmp_path, "0-9"))
    store = Store(tmp_path, "one")
    _fill(store, found[:4])
    store.put(found[4], 8, b"made, and killed before it was recorded")
    files = [tmp_path / unit.file(unit.seeds[0]) for unit in found]
    files[0].write_bytes(files[0].read_bytes()[:-3])
    files[1].write_bytes(files[1].read_bytes().replace(b"picture", b"pictura"))
    files[2].unlink()
    assert Store(tmp_path).missing(found) == [found[0], found[1], found[2], found[4]]


def test_a_line_that_was_cut_off_costs_nothing_else(tmp_path: Path) -> None:
    found = _units(_plan(tmp_path, "0-5"))
    store = Store(tmp_path, "one")
    _fill(store, found)
    file = tmp_path / "records" / "one.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    assert Store(tmp_path).missing(found) == [found[2]]


def test_after_a_full_disk_the_next_line_stands_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _units(_plan(tmp_path, "0-5"))
    store = Store(tmp_path, "one")
    _fill(store, found[:1])
    with monkeypatch.context() as patch:

        def full(handle: int) -> None:
            with (tmp_path / "records" / "one.jsonl").open("ab") as stream:
                stream.truncate(stream.tell() - 30)  # only a part of the line reached the disk
            raise OSError(28, "No space left on device")

        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="space"):
            store.record([{"key": "x", "file": "y", "sha256": "z"}])
    _fill(store, found[1:2])
    assert Store(tmp_path).missing(found) == [found[2]]


def test_a_full_disk_leaves_no_half_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (unit, *_) = _units(_plan(tmp_path))
    store = Store(tmp_path, "one")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="space"):
        store.put(unit, 0, b"picture")
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def test_the_table_has_the_plans_order_labels_and_nested_values(tmp_path: Path) -> None:
    found = _units(_plan(tmp_path, methods=["plain", {"use": "perp_neg", "name": "ours"}]))
    store = Store(tmp_path, "one")
    for unit in reversed(found):
        rows = [store.put(unit, seed, b"x") for seed in unit.seeds]
        store.record([{**row, "trace": [{"steps": [0, 2]}], "label": "old", "size": None, "time": "1"} for row in rows])
    store.merge(found)
    rows = read_table(tmp_path)
    assert [(row["label"], row["seed"]) for row in rows] == [(name, s) for name in ("plain", "ours") for s in range(4)]
    assert rows[0]["trace"] == [{"steps": [0, 2]}] and rows[0]["negatives"] == ["hat"] and rows[0]["size"] is None
    with pytest.raises(ValueError, match="cannot be read"):
        read_table(tmp_path / "none")


def test_ten_thousand_pictures_are_checked_in_seconds(tmp_path: Path) -> None:
    plan = _plan(
        tmp_path, "0-9", prompts=[f"a face {place} --no hat" for place in range(500)], methods=["plain", "perp_neg"]
    )
    found = _units(plan)
    data = bytes(range(256)) * 32  # as large as a Toybox picture
    lines = []
    store = Store(tmp_path, "one")
    for unit in found:
        for seed in unit.seeds:
            file = tmp_path / unit.file(seed)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            lines.append({"key": unit.key(seed), "file": unit.file(seed), "sha256": _SHA, "versions": {}, "time": "1"})
    store.record(lines)
    assert len(lines) == 10_000
    (tmp_path / found[7].file(found[7].seeds[1])).write_bytes(data[:-1])
    started = time.process_time()  # what it costs, also on a busy machine
    assert Store(tmp_path).missing(_units(plan)) == [found[7]]
    assert time.process_time() - started < 10


_SHA = hashlib.sha256(bytes(range(256)) * 32).hexdigest()
