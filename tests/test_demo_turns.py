"""Whose turn it is in the demo, how a run ends, and which models may be asked for."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from standin import standin_folder

from negguide.demo.options import Options
from negguide.demo.shelf import Shelf
from negguide.demo.turns import Full, Job, Stopped, Turns

OPTIONS = Options()
WATCHERS = ("toybox",)


def test_turns_go_round_among_people() -> None:
    order: list[str] = []
    gate = threading.Event()
    turns = Turns(waiting=10, each=6, seconds=60)

    def work(name: str) -> Any:
        return lambda job: (gate.wait(10), order.append(name))

    first = turns.submit(work("a0"), "a", "1")
    while first.started is None:
        time.sleep(0.01)
    jobs = [turns.submit(work(f"a{i}"), "a", "1") for i in (1, 2, 3)]
    jobs += [
        turns.submit(work("b1"), "b", "2"),
        turns.submit(work("b2"), "b", "2"),
        turns.submit(work("a'1"), "a", "3"),
    ]
    ahead = {name: turns.ahead(job) for name, job in zip(("a1", "a2", "a3", "b1", "b2", "a'1"), jobs, strict=True)}
    gate.set()
    _wait(jobs)
    assert order == ["a0", "b1", "a'1", "b2", "a1", "a2", "a3"]
    assert ahead == {name: order.index(name) for name in ahead}


def test_the_line_has_an_end_and_a_broken_run_does_not_stop_it() -> None:
    gate = threading.Event()
    turns = Turns(waiting=3, each=2, seconds=60)
    running = turns.submit(lambda job: gate.wait(10), "a", "1")
    while running.started is None:
        time.sleep(0.01)

    def break_down(job: Job) -> None:
        raise MemoryError("no")

    waiting = [turns.submit(break_down, "a", "1"), turns.submit(lambda job: None, "a", "1")]
    with pytest.raises(Full, match="of your requests"):
        turns.submit(lambda job: None, "a", "1")
    waiting.append(turns.submit(lambda job: None, "b", "1"))
    with pytest.raises(Full, match="others are waiting"):
        turns.submit(lambda job: None, "c", "1")
    gate.set()
    _wait(waiting)
    assert isinstance(waiting[0].error, MemoryError) and waiting[1].error is None and waiting[2].error is None


def test_stopping_ends_a_run_at_its_step_and_takes_back_what_waits() -> None:
    turns = Turns(waiting=9, each=9, seconds=60)
    reached = threading.Event()

    def walk(job: Job) -> None:
        for at in range(100):
            if at == 3:
                reached.set()
                while not job.is_stopped:
                    time.sleep(0.005)
            job.step()

    running, waiting = turns.submit(walk, "a", "1"), turns.submit(walk, "a", "1")
    other = turns.submit(lambda job: None, "a", "2")
    reached.wait(10)
    assert {id(job) for job in turns.stop("1")} == {id(running), id(waiting)}
    _wait([running, waiting, other])
    assert (running.steps, running.stopped_after, waiting.steps) == (4, 1, 0)
    assert isinstance(running.error, Stopped) and isinstance(waiting.error, Stopped) and other.error is None


def test_who_stops_following_stops_the_run() -> None:
    turns = Turns(waiting=9, each=9, seconds=60)

    def walk(job: Job) -> None:
        while True:
            time.sleep(0.005)
            job.tell(job.steps)
            job.step()

    async def look_away() -> Job:
        job = turns.submit(walk, "a", "1")
        news = job.follow()
        async for _ in news:
            if job.steps > 2:
                break
        await news.aclose()
        return job

    job = asyncio.run(look_away())
    _wait([job])
    assert isinstance(job.error, Stopped)


def test_a_run_that_takes_too_long_is_stopped() -> None:
    def walk(job: Job) -> None:
        while True:
            time.sleep(0.005)
            job.step()

    job = Turns(waiting=9, each=9, seconds=0.2).submit(walk, "a", "1")
    _wait([job])
    assert isinstance(job.error, Stopped)


def _wait(jobs: list[Job]) -> None:
    until = time.monotonic() + 60
    while not all(job.done for job in jobs):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_model_that_cannot_be_had_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from negguide.demo import shelf as module

    good, broken, pickled = standin_folder(), tmp_path / "broken", tmp_path / "pickled"
    shutil.copytree(good, broken)
    (broken / "unet" / "config.json").write_text("{")
    shutil.copytree(good, pickled)
    for file in (pickled / "unet").glob("*.safetensors"):
        file.rename(file.with_suffix(".bin"))
    options = Options(allow_models=(good, str(tmp_path)))
    shelf, told = Shelf(options), []
    first = shelf.get((good, "auto", "none"), told.append)
    assert shelf.get((good, "auto", "none")) is first and told == [f"Loading {good} …"]
    loads: list[str] = []
    real = module.load_model
    monkeypatch.setattr(module, "load_model", lambda name, *rest: loads.append(name) or real(name, *rest))
    for name, message, expected in (
        (str(pickled), "pickles", []),
        ("toybox/none", "not offered", []),
        (str(broken), "cannot be loaded", [str(broken), good]),
    ):
        loads.clear()
        with pytest.raises(ValueError, match=message):
            shelf.get((name, "auto", "none"))
        assert loads == expected and shelf.name == good
    with pytest.raises(ValueError, match="offload"):
        shelf.get((good, "float32", "model"))
    assert shelf.get((good, "auto", "none")).pipe is not None and loads == [str(broken), good]


def test_only_models_that_were_allowed_may_be_named(tmp_path: Path) -> None:
    good = Path(standin_folder())
    closed, folder, hub = Options(), Options(allow_models=(str(good.parent),)), Options(allow_models=("hub",))
    assert folder.check_model(str(good)) and str(good) in folder.models()
    assert hub.check_model("org/name") == "org/name"
    for options, name in (
        (closed, str(good)), (closed, "org/name"), (folder, str(tmp_path)), (folder, str(good / "..")), (folder, "org/name"),
        (hub, str(good)), (hub, "../name"), (hub, "a/b/c"), (hub, "org/.."), (hub, "toybox/no"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"not offered|unknown"):
            options.check_model(name)
    with pytest.raises(ValueError, match="no folder and no name"):
        Options(allow_models=("no such thing!",))
