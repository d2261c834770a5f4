"""Shards through Ray Data, really run on this machine: the pictures of a folder, also when an actor is killed amid its work."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from standin import standin_folder

from negguide.batch.addresses import CACHE, Address
from negguide.batch.engine import run
from negguide.batch.make import make_unit
from negguide.batch.plan import Plan
from negguide.batch.read import load_plan
from negguide.batch.sharded import on_ray
from negguide.batch.sharded.mirror import mirror
from negguide.batch.sharded.on_ray import run_sharded_on_ray
from negguide.batch.sharded.run import run_sharded
from negguide.batch.sharded.store import Shards, _table
from negguide.cli import main
from negguide.commands import measure as commands

ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")  # else its workers starve on a machine that has other work too
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))


def _plan(output: str, **changes: Any) -> Plan:
    plan = {
        "models": standin_folder(),
        "prompts": ["a pet on grass --no cat", "a face --no hat"],
        "methods": ["plain", "perp_neg"],
        "seeds": "0-5",
        "batch": 2,
        "steps": 4,
        "device": "cpu",
        "shard": 4,
        "output": output,
        **changes,
    }
    return load_plan(None, plan)


def _pictures(root: Path) -> dict[str, bytes]:
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in (root / "pictures").rglob("*.png")}


def test_two_actors_one_of_which_is_killed_make_the_pictures_of_a_folder(cluster: None, tmp_path: Path) -> None:
    assert run(_plan(str(tmp_path / "alone"))).missing == 0
    plan = _plan((tmp_path / "bucket").as_uri())
    killed: list[int] = []
    told: list[float] = []

    def kill() -> None:
        """Kill whoever has published the first shard, at the next one."""
        shards = Shards(plan.output)
        while not killed and not over.wait(0.01):  # actors begin when they can
            for name in shards.names("done"):
                killed.append(int(shards.marker(name, "done")["worker"].split("-")[-2]))
                os.kill(killed[0], signal.SIGKILL)
                break

    over = threading.Event()
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        outcome = run_sharded_on_ray(plan, lambda what, more: told.append(more), workers=2)
    finally:
        over.set()
        killer.join()
    assert killed and killed[0] != os.getpid()
    assert (outcome.pictures, outcome.there, outcome.missing, outcome.errors) == (24, 0, 0, [])
    assert _pictures(mirror(plan.output)) == _pictures(tmp_path / "alone")
    workers = {row["worker"] for name in Shards(plan.output).names("done") for row in Shards(plan.output).records(name)}
    assert len(workers) >= 2, "what the dead one left was made by another"
    again = run_sharded(plan)  # without Ray: it is the same batch
    assert (again.there, again.made) == (24, 0)


def test_from_the_command_line_with_pictures_that_cannot_be_made(
    cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [{"name": standin_folder()}, {"name": standin_folder(), "size": "60x60"}]  # not a multiple of 8
    plan = _plan((tmp_path / "bucket").as_uri(), models=models, methods=["plain"], seeds="0-1")
    (tmp_path / "p.json").write_text(plan.model_dump_json())
    assert main(["generate", str(tmp_path / "p.json"), "--engine", "ray", "--workers", "1", "--no-report"]) == 1
    printed = capsys.readouterr()
    assert "4 of 8 pictures are in" in printed.out and "4 made here" in printed.out
    assert printed.err.count("negguide: failed: plain on") == 2


def test_asked_to_stop_an_actor_publishes_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = _plan((tmp_path / "bucket").as_uri(), seeds="0-9", shard=20, steps=1)
    shards, made = Shards(plan.output), []
    shards.save_plan(plan)
    monkeypatch.setattr(on_ray, "LOOK", 0.0)
    monkeypatch.chdir(tmp_path)  # an actor goes to the folder in which the command was given

    def make_two(*rest: Any) -> Any:
        made.append(1)
        if len(made) == 2:
            shards.address.write("stop/this run", b"")
        return make_unit(*rest)

    maker = on_ray.Maker(plan.model_dump_json(), str(tmp_path), {}, "this run")
    maker._worker._make = make_two
    told = [json.loads(line) for line in maker({"shard": [0, 1]})["told"]]
    assert [one["made"] for one in told] == [4, 0] and len(made) == 2
    assert len(shards.names("begun")) == 1 and len(_pictures(mirror(plan.output))) == 4


def test_the_actors_are_told_when_the_command_is(tmp_path: Path) -> None:
    shards, asked = Shards((tmp_path / "bucket").as_uri()), threading.Event()
    with on_ray._ending(shards, "run", asked.is_set):
        assert shards.address.names("stop") == []
        asked.set()
        until = time.monotonic() + 10
        while not shards.address.names("stop") and time.monotonic() < until:
            time.sleep(0.01)
        assert shards.address.names("stop") == ["run"]
    assert shards.address.names("stop") == []


def _measured(address: Address) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What was measured there: of all pictures together, and of each."""
    table = pyarrow.parquet.read_table(io.BytesIO(address.read("measures.parquet"))).to_pylist()
    return json.loads(address.read("measures.json")), sorted(table, key=lambda row: (row["picture"], row["measure"]))


def _alike(ours: Any, theirs: Any) -> bool:
    """Equal, numbers but for what other numbers of threads change."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(_alike(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_alike, ours, theirs))
    if isinstance(ours, float) and isinstance(theirs, float):
        return ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)
    return bool(ours == theirs)


def test_two_actors_one_of_which_is_killed_measure_as_one_process_does(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = _plan((tmp_path / "bucket").as_uri(), clip="toybox", shard=5, batch=1, threads=1)
    run_sharded(plan)
    address = Address(plan.output)
    shards = Shards(plan.output)
    # One picture is lost, so that methods are compared on the seeds that both have.
    lost = sorted(shards.names("done"))[-1]
    address.write(f"records/{lost}.parquet", _table(shards.records(lost)[1:]))
    assert main(["measure", plan.output, "--clip", "toybox"]) == 0
    alone = _measured(address)
    monkeypatch.setenv(CACHE, str(tmp_path / "another cache"))
    killed: list[int] = []

    def kill(groups: int, process: int) -> None:
        if not killed and process != os.getpid():
            killed.append(process)
            os.kill(process, signal.SIGKILL)

    monkeypatch.setattr(commands, "partial", lambda *args, **named: partial(*args, **named, tell=kill))
    assert main(["measure", plan.output, "--clip", "toybox", "--engine", "ray", "--workers", "2"]) == 0
    assert killed
    assert list((tmp_path / "another cache").rglob("*.png")) == [], "pictures came to the actors only"
    far = _measured(address)
    assert _alike(far[0], alone[0])
    assert _alike(far[1], alone[1])
    assert {"alignment", "presence of cat"} <= {row["measure"] for row in far[1]}
    assert "novelty" in far[0]["means"]["perp_neg"], "features came back, too"
    assert main(["report", plan.output]) == 0, "with what was measured there"
    capsys.readouterr()


def test_what_a_cluster_cannot_measure_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", str(tmp_path), "--engine", "ray"]) == 2
    assert "measures what lies at an address" in capsys.readouterr().err
    assert main(["measure", tmp_path.as_uri(), "--engine", "ray", "--against", str(tmp_path)]) == 2
    assert "--against needs all pictures in one place" in capsys.readouterr().err
    assert main(["measure", str(tmp_path), "--workers", "2"]) == 2
    assert "--workers goes with --engine ray" in capsys.readouterr().err
    assert main(["measure", str(tmp_path), "--engine", "spark"]) == 2
    assert "possible: here, ray" in capsys.readouterr().err
