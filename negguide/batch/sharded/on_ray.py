"""Run a plan whose output is an address by Ray Data: shards stream through actors that have loaded the pipeline once.

Each row is a shard; what an actor makes of it goes to the address at once, and only a line about it comes back. Ray sees to how
many actors there are, how many rows wait, and that what a dead one was at is made by another; there are no locks and no leases.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from negguide.batch.engine import Outcome, Progress, load_here, load_unknown
from negguide.batch.on_ray import cluster, devices
from negguide.batch.plan import Plan
from negguide.batch.process import Place
from negguide.batch.sharded.layout import Layout
from negguide.batch.sharded.run import ShardWorker, Unreachable, check, missing
from negguide.batch.sharded.store import Shards
from negguide.batch.units import machine_of

AHEAD = 2
"""Shards that wait at each actor, the one in work included."""
BLOCKS = 10_000
"""Rows are handed out in at most so many parts."""
STOP, LOOK = "stop", 2.0
"""The folder in which a run is told to end, and seconds between two looks there."""
HEARD = ("made", "calling", "loading", "errors", "notes")
"""Of an outcome, what comes back with each shard."""


class Maker:
    """What runs in an actor: the pipeline is loaded when the first shard comes, and stays."""

    def __init__(self, plan: str, folder: str, environment: dict[str, str], run: str) -> None:
        import torch

        with contextlib.suppress(OSError):  # paths in a plan are meant from where the command was given
            os.chdir(folder)
        os.environ.update(environment)
        self.plan = Plan.model_validate_json(plan)
        torch.set_num_threads(self.plan.threads)
        self.layout, self.shards = Layout(self.plan, machine_of(self.plan.device)), Shards(self.plan.output)
        self._outcome = Outcome()
        place = Place(0, 1, self.plan.device, is_main=False)
        self._worker = ShardWorker(
            self.plan, self.layout, self.shards, self._outcome, lambda what, more: None, load_here, place, self._is_over
        )
        self._run, self._looked, self._over = run, 0.0, False

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Make these shards; a line of JSON about each."""
        rows = []
        for number in batch["shard"]:
            shard = self.layout.shards[int(number)]
            for name in HEARD:
                setattr(self._outcome, name, type(getattr(self._outcome, name))())
            problem = ""
            if not self._is_over() and shard.name not in self.shards.names("done"):  # a task that Ray does again
                try:
                    self._worker.make(shard)
                except Unreachable as error:
                    problem = str(error)
            heard = {name: getattr(self._outcome, name) for name in HEARD}
            rows.append(json.dumps({**heard, "unreachable": problem}))
        return {"told": rows}

    def _is_over(self) -> bool:
        if not self._over and time.monotonic() - self._looked > LOOK:
            self._looked = time.monotonic()
            self._over = self._run in self.shards.address.names(STOP)
        return self._over


def run_sharded_on_ray(
    plan: Plan,
    progress: Progress = lambda what, pictures: None,
    workers: int | None = None,
    stop: Callable[[], bool] = lambda: False,
    verify: bool = False,
    gpus: float = 1.0,
) -> Outcome:
    """As `run_sharded`, on the Ray cluster that this process is in or that RAY_ADDRESS names, else on this machine.

    `workers`: actors at most. `gpus`: of each actor; 0.5 has two of them share a GPU. Raises `ValueError` without Ray, and for
    devices that the cluster does not have.
    """
    started = time.monotonic()
    outcome = Outcome()
    with cluster() as ray:
        plan, needs, count = devices(plan, ray.cluster_resources(), workers, gpus)
        load_unknown(plan, plan.device, load_here)
        layout, shards = Layout(plan, machine_of(plan.device)), Shards(plan.output)
        shards.save_plan(plan)
        outcome.notes += check(layout, shards, outcome, Place(0, 1, plan.device, True) if verify else None)
        done = shards.names("done")
        todo = [{"shard": number} for number, shard in enumerate(layout.shards) if shard.name not in done]
        run = secrets.token_hex(8)
        with _ending(shards, run, stop):
            if todo:
                _stream(ray, plan, todo, needs, count, run, outcome, progress)
        outcome.stopped = stop()
    outcome.missing = missing(layout, shards)
    outcome.seconds = time.monotonic() - started
    return outcome


def _stream(
    ray: Any,
    plan: Plan,
    todo: list[dict[str, int]],
    needs: dict[str, float],
    count: int,
    run: str,
    outcome: Outcome,
    progress: Progress,
) -> None:
    """Send the shards through the actors, and add up what they tell."""
    quiet(ray)
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=count, max_tasks_in_flight_per_actor=AHEAD)
    rows = ray.data.from_items(todo, override_num_blocks=min(len(todo), BLOCKS)).map_batches(
        Maker,
        fn_constructor_args=(plan.model_dump_json(), str(Path.cwd()), environment_of(), run),
        compute=pool,
        batch_size=1,
        **needs,
    )
    for row in rows.iter_rows():
        event = json.loads(row["told"])
        for field in dataclasses.fields(Outcome):
            if field.name in ("made", "calling", "loading", "errors"):
                setattr(outcome, field.name, getattr(outcome, field.name) + event[field.name])
        outcome.notes += [note for note in event["notes"] if note not in outcome.notes]
        progress("shards", event["made"])
        if event["unreachable"]:
            outcome.errors.append(event["unreachable"])
            break


def environment_of() -> dict[str, str]:
    """What of this process's environment actors need to reach an address and the caches."""
    return {name: value for name, value in os.environ.items() if name.startswith(("NEGGUIDE_", "AWS_", "FSSPEC_"))}


def quiet(ray: Any) -> None:
    """No progress bars and no remarks of Ray Data."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


@contextlib.contextmanager
def _ending(shards: Shards, run: str, stop: Callable[[], bool]) -> Iterator[None]:
    """Have the actors told when this process is asked to stop: they publish what they have."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            if stop():
                shards.address.write(f"{STOP}/{run}", b"")
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        shards.address.remove(f"{STOP}/{run}")
