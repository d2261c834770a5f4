"""Workers on Ray, really run on this machine: the same pictures as without, also when one is killed amid its work."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standin import standin_folder

from negguide.batch import on_ray
from negguide.batch.engine import run
from negguide.batch.on_ray import run_on_ray
from negguide.batch.plan import Plan
from negguide.batch.read import load_plan
from negguide.batch.store import Store, read_table
from negguide.cli import main

ray = pytest.importorskip("ray")


def _plan(out: Path, **changes: Any) -> Plan:
    plan = {
        "models": standin_folder(),
        "prompts": ["a pet on grass --no cat", "a face --no hat"],
        "methods": ["plain", "perp_neg"],
        "seeds": "0-11",
        "batch": 1,
        "steps": 2,
        "device": "cpu",
        "output": str(out),
        **changes,
    }
    return load_plan(None, plan)


def _pictures(out: Path) -> dict[str, bytes]:
    return {file.relative_to(out).as_posix(): file.read_bytes() for file in (out / "pictures").rglob("*.png")}


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")  # else its workers starve on a machine that has other work too
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield
    ray.shutdown()


def test_two_actors_one_of_which_is_killed_make_the_same_pictures(cluster: None, tmp_path: Path) -> None:
    run(_plan(tmp_path / "alone", steps=6))
    plan = _plan(tmp_path / "ray", steps=6)
    told: list[float] = []
    stopped: list[int] = []

    def kill_one() -> None:
        """Stop the process that has made a picture first, as soon as it has; kill it once another has made one."""
        from json import loads

        until = float("inf")  # actors begin when they can; the patience is for the other one, once the first is stopped
        while not stop.wait(0.02) and time.monotonic() < until:
            makers = sorted({record["worker"] for record in Store(Path(plan.output)).records.values()})
            pids = {
                loads(file.read_text())["pid"]
                for file in (Path(plan.output) / "claims" / "workers" / f"{maker}.json" for maker in makers)
                if file.exists()
            }
            if not stopped and pids:
                stopped.append(pids.pop())
                os.kill(stopped[0], signal.SIGSTOP)
                until = time.monotonic() + 180
            if len(makers) > 1:
                break
        if stopped:
            os.kill(stopped[0], signal.SIGKILL)

    stop = threading.Event()
    killer = threading.Thread(target=kill_one)
    killer.start()
    try:
        outcome = run_on_ray(plan, progress=lambda what, pictures: told.append(pictures))
    finally:
        stop.set()
        killer.join()
    assert stopped and stopped[0] != os.getpid()
    assert (outcome.pictures, outcome.missing, outcome.errors) == (48, 0, [])
    assert _pictures(tmp_path / "ray") == _pictures(tmp_path / "alone")
    assert [row["key"] for row in read_table(tmp_path / "ray")] == [
        row["key"] for row in read_table(tmp_path / "alone")
    ]
    workers = {record["worker"] for record in Store(tmp_path / "ray").records.values()}
    assert len(workers) >= 2, "what the dead one left was made by another"
    assert not list((tmp_path / "ray").rglob(".*.tmp"))


def test_from_the_command_line_with_pictures_that_cannot_be_made(
    cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [{"name": standin_folder()}, {"name": standin_folder(), "size": "60x60"}]  # not a multiple of 8
    plan = _plan(tmp_path, models=models, methods=["plain"], seeds="0-1")
    (tmp_path / "p.json").write_text(plan.model_dump_json())
    assert main(["generate", str(tmp_path / "p.json"), "--engine", "ray", "--workers", "1", "--no-report"]) == 1
    printed = capsys.readouterr()
    assert "4 of 8 pictures are in" in printed.out and "4 made here" in printed.out
    assert printed.err.count("negguide: failed: plain on") == 4


def test_what_the_cluster_does_not_have_is_told() -> None:
    plan = _plan(Path("out"))
    devices = on_ray.devices
    assert devices(plan, {"CPU": 5.0}, None)[1:] == ({"num_cpus": 1}, 5)
    assert devices(plan, {"CPU": 5.0}, 2)[2] == 2
    assert devices(plan.model_copy(update={"threads": 2}), {"CPU": 5.0}, None)[1:] == ({"num_cpus": 2}, 2)
    assert devices(plan.model_copy(update={"device": "cuda"}), {"GPU": 2.0}, None, 0.5)[1:] == (
        {"num_gpus": 0.5, "num_cpus": 0},
        4,
    )
    assert devices(plan.model_copy(update={"device": "cuda"}), {"GPU": 5.0}, None, 2)[2] == 2
    with pytest.raises(ValueError, match="a part of one"):
        devices(plan, {"CPU": 5.0}, None, 1.5)
    auto = plan.model_copy(update={"device": "auto"})
    with_gpus = devices(auto, {"CPU": 8.0, "GPU": 4.0}, None)
    assert with_gpus[0].device == "cuda" and with_gpus[1]["num_gpus"] == 1 and with_gpus[2] == 4
    assert devices(auto, {"CPU": 1.0}, None)[0].device == "cpu"
    with pytest.raises(ValueError, match="no GPU"):
        devices(plan.model_copy(update={"device": "cuda"}), {"CPU": 5.0}, None)
    with pytest.raises(ValueError, match="a worker needs 8"):
        devices(plan.model_copy(update={"threads": 8}), {"CPU": 5.0}, None)
    with pytest.raises(ValueError, match="possible with Ray: auto, cpu, cuda"):
        devices(plan.model_copy(update={"device": "cuda:1"}), {"GPU": 5.0}, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--engine", "slurm"], "possible: accelerate, ray"), (["--workers", "2"], "goes with --engine ray")],
)
def test_wrong_engines_are_told(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--preset", "easy-hard", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_without_ray_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install 'negguide\[ray\]'"):
        run_on_ray(_plan(Path("out")))
