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


class _Clock:
    """Seconds that pass when they are told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def _elsewhere(root: Path, claims: Claims, **about: Any) -> Path:
    """Say of a worker that it runs on another machine; the file of its signs of life."""
    file = root / "claims" / "workers" / f"{claims.name}.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "place": "elsewhere", **about}))
    return file


@pytest.mark.parametrize("ahead", [0.0, 86400.0, -86400.0], ids=["right", "a day ahead", "a day behind"])
@pytest.mark.parametrize("pid", [1, None], ids=["pid 1", "own pid"])
def test_of_another_machine_only_the_signs_of_life_count(tmp_path: Path, ahead: float, pid: int | None) -> None:
    clock = _Clock()
    with Claims(tmp_path) as far, Claims(tmp_path, dead_after=30, clock=clock) as here:
        file = _elsewhere(tmp_path, far, pid=pid or os.getpid())
        far.take("a")
        beat = time.time() + ahead
        for now in (0, 29, 58, 87):
            clock.now = now
            seen = beat + now * (-1 if ahead else 1)  # as that machine's clock has it, which may be set back meanwhile
            os.utime(file, (seen, seen))
            assert here.take("a") == "busy" and here.others()
        clock.now = 116
        assert here.take("a") == "busy", "29 seconds without a sign"
        clock.now = 118
        assert here.take("a") == "mine" and not here.others()


def test_containers_with_one_host_name_and_own_process_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every container's process has the number 1 and the host name of the others; it lives, and is not taken for dead."""
    from negguide.batch import signs

    monkeypatch.setattr(signs.os, "getpid", lambda: 1)
    monkeypatch.setattr(signs.socket, "gethostname", lambda: "batch")
    names = []
    for number in range(2):
        monkeypatch.setattr(signs, "place_of_this_process", lambda place=f"boot pid:[{number}]": place)
        monkeypatch.setattr(signs, "_started", lambda pid, number=number: str(number))
        names.append(Claims(tmp_path))
        names[-1].__enter__()
    one, two = names
    try:
        assert one.name != two.name
        one.take("a")
        assert two.take("a") == "busy" and two.others()
    finally:
        one.__exit__()
        two.__exit__()


@pytest.mark.skipif(not Path("/proc/self/ns/pid").exists(), reason="only Linux has namespaces of process numbers")
def test_a_process_number_means_something_in_its_namespace_only() -> None:
    from negguide.batch.signs import place_of_this_process

    place = place_of_this_process()
    assert place is not None and os.readlink("/proc/self/ns/pid") in place
    assert Path("/proc/sys/kernel/random/boot_id").read_text().strip() in place


def test_temporary_names_are_never_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from negguide.experiment import files

    seen = []
    original = os.replace
    monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.setattr(files.os, "replace", lambda a, b: (seen.append(a), original(a, b)))
    for _ in range(20):
        files.write(tmp_path / "a.png", b"x")
    assert len(set(seen)) == 20


def test_a_worker_that_lives_and_hangs_loses_its_unit_when_its_lease_ends(tmp_path: Path) -> None:
    clock = _Clock()
    with Claims(tmp_path) as hung, Claims(tmp_path, lease=100, clock=clock) as here:
        hung.take("a")
        assert here.take("a") == "busy"
        clock.now = 60
        hung.signs.gets_on(at_once=True)
        assert here.take("a") == "busy"
        clock.now = 159
        assert here.take("a") == "busy"
        clock.now = 161
        assert here.take("a") == "mine" and here.others(), "it is not dead, and its claims are not cleared away"
        hung.take("b")
        assert here.take("b") == "busy", "it gets on again"


def test_who_waits_for_others_does_not_hang(tmp_path: Path) -> None:
    clock = _Clock()
    with Claims(tmp_path) as waiting, Claims(tmp_path, lease=100, clock=clock) as here:
        here.take("a")
        waiting.take("b")
        waiting.finish("b")
        assert here.signs.life(waiting.name) == "alive"
        clock.now = 200  # it has waited for a all the time
        waiting.take("c")
        assert here.take("c") == "busy"


def test_without_links_a_claim_without_its_name_is_held_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = _Clock()

    def no_links(*rest: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", no_links)
    with Claims(tmp_path) as one, Claims(tmp_path, dead_after=30, clock=clock) as here:
        assert one.take("a") == "mine" and here.take("a") == "busy"
        (tmp_path / "claims" / "b.0").touch()  # created, its name about to be written
        assert here.take("b") == "busy"
        clock.now = 31
        assert here.take("b") == "mine"


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
