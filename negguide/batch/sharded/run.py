"""Run a plan whose output is an address: any number of workers take shards, and publish each when it is made."""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from negguide.batch.addresses import cache_folder
from negguide.batch.engine import Load, Outcome, Progress, load_here, load_unknown, note_split, note_warnings
from negguide.batch.make import Result, forget_sizes, make_unit
from negguide.batch.plan import Plan
from negguide.batch.process import Place, pinned_threads, place_of_process
from negguide.batch.records import about_failure, about_picture, made_now
from negguide.batch.sharded.layout import Layout, Shard
from negguide.batch.sharded.leases import Leases
from negguide.batch.sharded.spool import Spool
from negguide.batch.sharded.store import STATES, Shards, State
from negguide.batch.signs import worker_name
from negguide.batch.units import Unit, machine_of
from negguide.experiment.files import is_full
from negguide.experiment.models import Model

POLL = 2.0
"""Seconds between two looks at shards that others are at."""
TRIES, PAUSE = 4, 2.0
"""How often a shard is put to its address, and seconds before the second time; each further time waits twice as long."""

Make = Callable[[Model, Unit, Callable[[float], None]], Result]
"""Makes the pictures of a unit."""


class Unreachable(Exception):
    """Nothing more can be written, so that making more pictures would be for nothing."""


def run_sharded(
    plan: Plan,
    progress: Progress = lambda what, pictures: None,
    load: Load | None = None,
    place: Place | None = None,
    stop: Callable[[], bool] = lambda: False,
    verify: bool = False,
) -> Outcome:
    """Make the pictures of a plan that are not at its address yet; as `negguide.batch.engine.run` does in a folder.

    Start it as often as you like, on any machines: what they share is the address alone. `verify`: read what is done and make
    again what is not as it was published; else the names of the shards count.
    """
    started = time.monotonic()
    place = place or place_of_process(plan.device)
    forget_sizes()
    outcome = Outcome(is_main=place.is_main)
    with pinned_threads(plan.threads):
        load = load or load_here
        loaded = load_unknown(plan, place.device, load)
        layout, shards = Layout(plan, machine_of(place.device)), Shards(plan.output)
        if place.is_main:
            shards.save_plan(plan)
        with Leases(shards.address, worker_name(), lease=plan.lease * 60) as leases:
            worker = ShardWorker(plan, layout, shards, outcome, progress, load, place, stop, loaded=loaded)
            begun = time.monotonic()
            outcome.notes += check(layout, shards, outcome, place if verify else None)
            outcome.checking = time.monotonic() - begun
            turns = Turns(layout, shards, leases, place)
            try:
                while (shard := turns.next(stop)) is not None:
                    worker.make(shard, leases.gets_on)
                    leases.leave()
            except Unreachable as error:
                outcome.errors.append(str(error))
            outcome.stopped = stop()
    outcome.missing = missing(layout, shards)
    outcome.seconds = time.monotonic() - started
    return outcome


def check(layout: Layout, shards: Shards, outcome: Outcome, verifying: Place | None = None) -> list[str]:
    """Count what is there into `outcome`; with `verifying`, a worker reads its part of what is done, and forgets what is bad."""
    done, wanted = shards.names("done"), {shard.name for shard in layout.shards}
    notes = []
    if others := len(done - wanted):
        notes.append(f"{others} shards there are not of this plan (another one's, or other versions of its models)")
    if verifying is not None:
        names = sorted(done & wanted)[verifying.rank :: verifying.world]
        bad = [name for name in names if not shards.is_whole(name)]
        for name in bad:
            shards.forget(name)
        notes.append(
            f"{len(names)} shards read again, {len(bad)} of them are not as they were published and are made again"
        )
    outcome.pictures = layout.pictures
    outcome.there = layout.pictures - missing(layout, shards)
    return notes


def missing(layout: Layout, shards: Shards) -> int:
    """Pictures of a plan that are not there."""
    done = shards.names("done")
    left = {shard.name: shard.pictures for shard in layout.shards if shard.name not in done}
    for state in STATES[1:]:
        for name in shards.names(state) & left.keys():
            left[name] -= shards.marker(name, state)["pictures"]
    return sum(left.values())


class Turns:
    """Which shard a worker makes next: those of its own part first, then what nobody else is at."""

    def __init__(self, layout: Layout, shards: Shards, leases: Leases, place: Place) -> None:
        self._shards, self._leases = shards, leases
        count = len(layout.shards)
        start = place.rank * count // place.world
        if place.world == 1:  # workers that know nothing of each other begin apart, too
            start = int(hashlib.sha256(worker_name().encode()).hexdigest(), 16) % count
        self._todo = [*layout.shards[start:], *layout.shards[:start]]
        self._failed_before = shards.address.stamps("failed")

    def next(self, stop: Callable[[], bool] = lambda: False, wait: bool = True) -> Shard | None:
        """Take a shard; None when all are done, or failed in this run, or when asked to stop (or, without `wait`, to wait)."""
        while not stop():
            done, failed = self._shards.names("done"), self._shards.address.stamps("failed")
            tried = {name.removesuffix(".json") for name in failed if self._failed_before.get(name) != failed[name]}
            self._todo = [shard for shard in self._todo if shard.name not in done and shard.name not in tried]
            if not self._todo:
                return None
            held = self._leases.held()
            free = next((shard for shard in self._todo if shard.name not in held), None)
            if free is not None:
                self._leases.take(free.name)
                return free
            if not wait:
                return None
            time.sleep(POLL)
        return None


class ShardWorker:
    """Makes shards and publishes them. `make`: how a unit's pictures come about, in place of a pipeline's call."""

    def __init__(
        self,
        plan: Plan,
        layout: Layout,
        shards: Shards,
        outcome: Outcome,
        progress: Progress,
        load: Load,
        place: Place,
        stop: Callable[[], bool] = lambda: False,
        make: Make = make_unit,
        loaded: dict[int, Model] | None = None,
        name: str = "",
    ) -> None:
        self.plan, self.layout, self.shards, self.outcome, self.place = plan, layout, shards, outcome, place
        self._progress, self._load, self._stop, self._make = progress, load, stop, make
        self._name = name or worker_name()
        self._models = loaded or {}
        self._broken: dict[int, ValueError] = {}

    def make(self, shard: Shard, gets_on: Callable[[], None] = lambda: None) -> State:
        """Make what is missing of a shard and publish it; the state in which it is then. Raises `Unreachable`."""
        spool = Spool(self.plan.output, shard.name)
        try:
            self._fetch(shard, spool)
            keys, errors, stopped = self._fill(shard, spool, gets_on)
            state: State = "failed" if errors else "begun" if stopped else "done"
            if keys or errors:
                self._publish(shard, spool, keys, errors, state)
        except OSError as error:
            reason = "the disk is full" if is_full(error) else f"{type(error).__name__}: {error}"
            raise Unreachable(
                f"stopped: {shard.name} cannot be kept in {str(cache_folder(self.plan.output, 'spool'))!r} or written to "
                f"{self.plan.output!r} ({reason}); the same line goes on"
            ) from error
        finally:
            spool.close()
        spool.clear()
        return state

    def _fetch(self, shard: Shard, spool: Spool) -> None:
        """Bring here what an earlier worker published of an unfinished shard."""
        for state in STATES[1:]:
            if shard.name not in self.shards.names(state):
                continue
            records = {record["key"]: record for record in self.shards.records(shard.name)}
            for key, data in self.shards.pictures(shard.name, spool.folder):
                if key in records and records[key]["sha256"] == hashlib.sha256(data).hexdigest() and not spool.has(key):
                    spool.keep(records[key], data)

    def _fill(
        self, shard: Shard, spool: Spool, gets_on: Callable[[], None]
    ) -> tuple[list[str], list[dict[str, str]], bool]:
        """Keys of the pictures that are here then, what failed, and whether it was asked to stop before the end."""
        keys: list[str] = []
        errors: list[dict[str, str]] = []
        stopped = False
        for unit in self.layout.units(shard):
            own = [unit.key(seed) for seed in unit.seeds]
            if not all(map(spool.has, own)):
                stopped = stopped or self._stop()
                if stopped:
                    continue
                try:
                    result = self._result(shard, unit, gets_on)
                except Exception as error:  # whatever it is, the other units must go on
                    if is_full(error):
                        raise
                    record, line = about_failure(unit, error)
                    self.outcome.errors.append(line)
                    errors.append({"unit": record["unit"], "error": line})
                    continue
                self._keep(unit, result, spool)
            keys += own
        return keys, errors, stopped

    def _result(self, shard: Shard, unit: Unit, gets_on: Callable[[], None]) -> Result:
        what = f"{unit.variant.label} · {unit.task.prompt}"

        def tell(pictures: float) -> None:
            gets_on()
            self._progress(what, pictures)

        with warnings.catch_warnings(record=True) as heard:
            result = self._make(self._model(shard.model), unit, tell)
        gets_on()
        note_warnings(self.outcome, unit, heard)
        return result

    def _keep(self, unit: Unit, result: Result, spool: Spool) -> None:
        for seed, data in result.files:
            about = {**about_picture(unit, seed, result), **made_now(self._name, self.place.rank)}
            spool.keep({"key": unit.key(seed), "file": unit.file(seed), **about}, data)
        self.outcome.made += len(unit.seeds)
        self.outcome.calling += result.seconds
        note_split(self.outcome, unit, result)

    def _model(self, place: int) -> Model:
        """The model, loaded once; another one makes room for it first."""
        if place in self._broken:
            raise self._broken[place]
        if place not in self._models:
            begun = time.monotonic()
            self._models.clear()
            try:
                self._models[place] = self._load(self.plan.models[place], self.place.device)
            except ValueError as error:
                self._broken[place] = error
                raise
            self.outcome.loading += time.monotonic() - begun
        return self._models[place]

    def _publish(
        self, shard: Shard, spool: Spool, keys: Iterable[str], errors: Sequence[dict[str, str]], state: State
    ) -> None:
        put = partial(
            self.shards.publish, shard.name, spool, list(keys), {"errors": list(errors), "worker": self._name}
        )
        for attempt in range(TRIES):
            try:
                return put(state)
            except OSError as error:
                if attempt == TRIES - 1 or is_full(error):
                    raise
                time.sleep(PAUSE * 2**attempt)
