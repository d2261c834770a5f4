"""What a batch at an address costs beside the pipeline: at its start, for each picture, in memory.

python benchmarks/scale.py [--pictures 1000000] [--workers 64] [--out FOLDER]

The workers take turns in this process, a shard each, by a clock that is simulated; a picture is a few bytes. Drawn by chance: one
call in 10,000 fails the first time, one in 20,000 kills its worker in the middle of a shard, and another one comes for it. What
they leave is checked: everything is done, and drawn shards hold their pictures once, in their order.

The exit code is 0 when the bars hold, in processor time: a start under 10 s with everything done, under 2 ms a picture, and a
memory that grows by less than 100 MiB after the first tenth.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

from negguide.batch.addresses import CACHE
from negguide.batch.engine import Outcome
from negguide.batch.make import Result
from negguide.batch.plan import Plan
from negguide.batch.process import Place
from negguide.batch.read import load_plan
from negguide.batch.sharded.layout import Layout
from negguide.batch.sharded.leases import Leases
from negguide.batch.sharded.run import ShardWorker, Turns, check, missing
from negguide.batch.sharded.store import Shards
from negguide.batch.units import Unit, machine_of
from negguide.experiment.models import Model
from negguide.types import Pipeline

FAILS, KILLS = 1 / 10_000, 1 / 20_000
PER_PROMPT = 20
TOLD = 10
"""So often the memory is looked at."""


class Killed(BaseException):
    """The worker is gone, in the middle of its work; nothing of it cleans up."""


class Simulation:
    """Workers at one address."""

    def __init__(self, plan: Plan, layout: Layout, count: int, seed: int = 0) -> None:
        self.plan, self.layout, self.count = plan, layout, count
        self.draw = random.Random(seed)
        self.now = 0.0
        self.outcome = Outcome()
        self.calls = self.killed = self.failed = 0
        self.failed_once: set[str] = set()

    def make(self, model: Model, unit: Unit, tell: Callable[[float], None]) -> Result:
        """In place of the pipeline."""
        self.calls += 1
        chance = self.draw.random()
        if chance < KILLS:
            self.killed += 1
            raise Killed
        if chance < KILLS + FAILS and unit.id not in self.failed_once:
            self.failed += 1
            self.failed_once.add(unit.id)
            raise RuntimeError("drawn")
        files = [(seed, unit.key(seed).encode()) for seed in unit.seeds]
        return Result(files, 0.0, {"passes": 75.0, "trace": []}, 1)

    def run(self) -> list[float]:
        """All workers until nothing is left for any of them; the memory (MiB) from time to time."""
        seats = [self._worker(rank) for rank in range(self.count)]
        idle = 0
        memory: list[float] = []
        while idle < len(seats):
            idle = 0
            for rank, (worker, turns, leases) in enumerate(seats):
                self.now += 1.0
                try:
                    shard = turns.next(wait=False)
                    if shard is None:
                        idle += 1
                        continue
                    worker.make(shard)
                    leases.leave()
                except Killed:
                    seats[rank] = self._worker(rank)
                if self.outcome.made >= len(memory) * self.layout.pictures / TOLD:
                    memory.append(resident())
            if idle == len(seats) and Shards(self.plan.output).address.names("work"):
                self.now += 60.0  # somebody's lease is still to run out
                idle = 0
        return memory

    def _worker(self, rank: int) -> tuple[ShardWorker, Turns, Leases]:
        shards = Shards(self.plan.output)
        place = Place(rank, self.count, "cpu", rank == 0)
        name = f"simulated-{rank}-{self.killed}"
        leases = Leases(shards.address, name, beats=False, clock=lambda: self.now)
        worker = ShardWorker(
            self.plan,
            self.layout,
            shards,
            self.outcome,
            lambda what, more: None,
            lambda model, device: Model("none", cast(Pipeline, None)),
            place,
            make=self.make,
            name=name,
        )
        return worker, Turns(self.layout, shards, leases, place), leases


def processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def resident() -> float:
    """MiB that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def start(file: Path) -> tuple[Plan, Layout, Outcome]:
    """What a worker does before it takes a shard."""
    plan = load_plan(file)
    layout, outcome = Layout(plan, machine_of("cpu")), Outcome()
    check(layout, Shards(plan.output), outcome)
    return plan, layout, outcome


def is_complete(layout: Layout, shards: Shards, sample: int = 50) -> bool:
    """Whether all is done, and drawn shards hold their pictures in order, once each."""
    if missing(layout, shards) or shards.names("failed") or shards.names("begun"):
        return False
    folder = Path(os.environ[CACHE])
    for shard in random.Random(1).sample(layout.shards, min(sample, len(layout.shards))):
        keys = [unit.key(seed) for unit in layout.units(shard) for seed in unit.seeds]
        found = list(shards.pictures(shard.name, folder))
        if [key for key, _ in found] != keys or any(data != key.encode() for key, data in found):
            return False
        if [record["key"] for record in shards.records(shard.name)] != keys:
            return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("out/scale"))
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    os.environ[CACHE] = str(options.out.absolute() / "cache")
    prompts = [f"a pet number {place} --no cat" for place in range(max(1, options.pictures // PER_PROMPT))]
    plan = {"prompts": prompts, "methods": ["plain", "perp_neg"], "seeds": f"0-{PER_PROMPT // 2 - 1}", "batch": 1}
    file = options.out / "plan.json"
    file.write_text(json.dumps({**plan, "device": "cpu", "output": (options.out.absolute() / "batch").as_uri()}))

    begun = processor()
    checked, layout, _ = start(file)
    print(f"start, nothing done: {processor() - begun:.1f} s of the processor, {resident():.0f} MiB", flush=True)
    simulation = Simulation(checked, layout, options.workers)
    begun, wall = processor(), time.monotonic()
    memory = simulation.run()
    first = simulation.outcome.made
    memory += simulation.run()  # the same line again makes what had failed
    spent, wall = processor() - begun, time.monotonic() - wall
    each = 1000 * spent / simulation.outcome.made
    print(
        f"{simulation.outcome.made} pictures in {len(layout.shards)} shards by {options.workers} workers, "
        f"{simulation.killed} of them killed, {simulation.failed} calls failed: {each:.3f} ms of the processor a picture "
        f"({spent:.0f} s; {wall:.0f} s of the clock)"
    )
    vain = simulation.outcome.made - layout.pictures
    print(f"by the first start of all workers: {first}; made twice: {vain}", flush=True)
    print(f"memory while they worked: {min(memory):.0f} to {max(memory):.0f} MiB", flush=True)
    begun, wall = processor(), time.monotonic()
    _, again, outcome = start(file)
    starting, wall = processor() - begun, time.monotonic() - wall
    print(
        f"start, {outcome.there} of {outcome.pictures} done: {starting:.1f} s of the processor, {wall:.1f} s of the clock",
        flush=True,
    )
    whole = is_complete(again, Shards(checked.output))
    print(f"every picture is there once, in its place: {whole}")
    grown = max(memory[1:]) - memory[1]
    sys.exit(0 if whole and starting < 10 and each < 2 and grown < 100 else 1)


if __name__ == "__main__":
    main()
