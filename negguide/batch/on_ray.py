"""Run a plan on a Ray cluster, or with Ray on this machine: a worker for each device, started again where one dies.

Every worker is `negguide.batch.engine.run` in an actor: the claims in the batch's folder decide who makes what, so that the
work of a dead worker is done by the others at once, and again by itself when Ray has started it anew on another node. The folder
must be one that all nodes see.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from negguide.batch.addresses import is_address
from negguide.batch.engine import Outcome, Progress, conclude, run
from negguide.batch.plan import Plan
from negguide.batch.process import Place
from negguide.batch.store import Store

RESTARTS = 3
"""How often a worker is started again."""
LOOK, GRACE = 0.5, 30.0
"""Seconds between two looks at the workers, and for which the last ones are waited for when one has found nothing left to do."""


class Worker:
    """What runs in an actor. Its methods are called from several threads: one works, another tells how far it is."""

    def __init__(self, plan: str, only: str | None, rank: int, world: int, folder: str) -> None:
        with contextlib.suppress(OSError):  # paths in a plan are meant from where the command was given
            os.chdir(folder)
        self.plan, self.only, self.rank, self.world = Plan.model_validate_json(plan), only, rank, world
        self.what, self.done, self.stopped = "", 0.0, False

    def work(self) -> Outcome:
        """Make what is missing until nothing is left."""
        import ray

        place = Place(self.rank, self.world, self.plan.device, is_main=False)
        outcome = run(self.plan, self.only, self._tell, place=place, stop=lambda: self.stopped)
        if ray.get_runtime_context().was_current_actor_reconstructed:
            outcome.notes.append(f"worker {self.rank} died and was started again")
        return outcome

    def conclude(self) -> Outcome:
        """Write the table and say what is there."""
        return conclude(self.plan, self.only)

    def stop(self) -> None:
        """Finish the unit in work, and no other."""
        self.stopped = True

    def progress(self) -> tuple[str, float]:
        """What it makes, and how many pictures it has made."""
        return self.what, self.done

    def _tell(self, what: str, pictures: float) -> None:
        self.what, self.done = what, self.done + pictures


def run_on_ray(
    plan: Plan,
    only: str | None = None,
    progress: Progress = lambda what, pictures: None,
    workers: int | None = None,
    stop: Callable[[], bool] = lambda: False,
    gpus: float = 1.0,
) -> Outcome:
    """As `run`, by workers on the Ray cluster that this process is in or that RAY_ADDRESS names, else on this machine.

    `workers`: how many at most; by default one for each GPU, without GPUs one for each `plan.threads` CPUs.
    `gpus`: of each worker; 0.5 has two of them share a GPU. Raises
    `ValueError` without Ray, for devices that the cluster does not have, and when every worker has died.
    """
    started = time.monotonic()
    with cluster() as ray:
        plan, needs, count = devices(plan, ray.cluster_resources(), workers, gpus)
        Store(plan.folder).save_plan(plan)
        actor = ray.remote(**needs, max_concurrency=2, max_restarts=RESTARTS, max_task_retries=RESTARTS)(Worker)
        folder = str(Path.cwd())
        actors = [actor.remote(plan.model_dump_json(), only, rank, count, folder) for rank in range(count)]
        outcome = _watch(ray, actors, progress, stop)
    outcome.seconds = time.monotonic() - started
    return outcome


@contextlib.contextmanager
def cluster() -> Iterator[Any]:
    """Ray, joined or begun here; what was begun here ends. `ValueError` without Ray."""
    ray = _import()
    begun_here = not ray.is_initialized()
    if begun_here:
        with _own_signals():
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        yield ray
    finally:
        if begun_here:
            ray.shutdown()


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """What this process does on SIGTERM stays what it was; Ray's start would make it end at once."""
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    yield
    if is_main and before is not None:
        signal.signal(signal.SIGTERM, before)


def _import() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ValueError("the engine 'ray' needs Ray: pip install 'negguide[ray]'") from error
    return ray


def devices(
    plan: Plan, there: dict[str, float], workers: int | None, share: float = 1.0
) -> tuple[Plan, dict[str, float], int]:
    """The plan with its device, what a worker needs of the cluster (`share`: of a GPU), and how many workers it has room for."""
    if share <= 0 or (share > 1 and share != int(share)):
        raise ValueError(f"GPUs of a worker are {share:g}; possible: a part of one (0.5), or a whole number")
    gpus, cpus = int(there.get("GPU", 0)), int(there.get("CPU", 0))
    device = plan.device if plan.device != "auto" else ("cuda" if gpus else "cpu")
    if device not in ("cpu", "cuda"):
        raise ValueError(f"the device is {device!r}; possible with Ray: auto, cpu, cuda (Ray chooses which GPU)")
    needs: dict[str, float] = {"num_gpus": share, "num_cpus": 0} if device == "cuda" else {"num_cpus": plan.threads}
    room = (gpus * int(1 / share) if share <= 1 else gpus // int(share)) if device == "cuda" else cpus // plan.threads
    if not room:
        wanted = "no GPU" if device == "cuda" else f"{cpus} CPUs, and a worker needs {plan.threads} (threads)"
        raise ValueError(f"the Ray cluster has {wanted}; choose another device, or add nodes")
    output = plan.output if is_address(plan.output) else str(plan.folder.absolute())
    plan = plan.model_copy(update={"device": device, "output": output})
    return plan, needs, min(room, workers or room)


def _watch(ray: Any, actors: Sequence[Any], progress: Progress, stop: Callable[[], bool]) -> Outcome:
    """Wait for the workers; one that has ended in order sees to the table. `ValueError` if none has."""
    running = {actor.work.remote(): actor for actor in actors}
    telling = _Telling(ray, progress)
    ended: list[tuple[Any, Outcome]] = []
    lost: list[str] = []
    until = float("inf")
    stopping = False
    while running and time.monotonic() < until:
        if stop() and not stopping:
            stopping = True
            for actor in running.values():
                actor.stop.remote()
        for call in ray.wait(list(running), timeout=LOOK)[0]:
            actor = running.pop(call)
            try:
                ended.append((actor, ray.get(call)))
            except ray.exceptions.RayActorError as error:
                lost.append(f"a worker died {RESTARTS + 1} times: {' '.join(str(error).split())[:200]}")
            except ray.exceptions.RayTaskError as error:
                raise error.cause if isinstance(error.cause, ValueError) else error from error
        if ended and not stopping and until == float("inf"):
            until = time.monotonic() + GRACE
        telling.look(list(running.values()))
    while ended:
        actor, _ = ended[-1]
        try:
            final: Outcome = ray.get(actor.conclude.remote())
            break
        except ray.exceptions.RayActorError:
            ended.pop()
    else:
        raise ValueError(f"every worker has died; {'; '.join(lost)}")
    return _sum(final, [outcome for _, outcome in ended], lost)


class _Telling:
    """Hands on what the workers make; one question at a time to each, since one that is being started again cannot answer."""

    def __init__(self, ray: Any, progress: Progress) -> None:
        self._ray, self._progress = ray, progress
        self._told: dict[object, float] = {}
        self._asked: dict[object, object] = {}

    def look(self, actors: Sequence[Any]) -> None:
        """Ask the workers, and tell what those have made since that answer at once."""
        waiting = set(self._asked.values())
        self._asked |= {actor.progress.remote(): actor for actor in actors if actor not in waiting}
        if not self._asked:
            return
        calls = list(self._asked)
        for call in self._ray.wait(calls, num_returns=len(calls), timeout=LOOK)[0]:
            actor = self._asked.pop(call)
            with contextlib.suppress(self._ray.exceptions.RayError):  # it is just dying
                what, done = self._ray.get(call)
                self._progress(what, max(0.0, done - self._told.get(actor, 0.0)))
                self._told[actor] = done


def _sum(final: Outcome, parts: Sequence[Outcome], lost: Sequence[str]) -> Outcome:
    """What the whole run did: the state at its end, and what each worker says of itself."""
    for part in parts:
        final.made += part.made
        final.stopped |= part.stopped
        final.calling += part.calling
        final.loading += part.loading
        final.errors += part.errors
        final.notes += [note for note in part.notes if note not in final.notes]
    final.there = min(part.there for part in parts)
    final.notes += lost
    return final
