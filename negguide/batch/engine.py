"""Run a plan: any number of processes claim units, make what is missing, and none waits for another."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from negguide.batch.claims import Claims
from negguide.batch.make import Result, forget_sizes, make_unit
from negguide.batch.notes import notes_before
from negguide.batch.plan import ModelPlan, Plan
from negguide.batch.process import Place, pinned_threads, place_of_process
from negguide.batch.records import about_failure, about_picture, made_now
from negguide.batch.store import Record, Store
from negguide.batch.units import Unit, count, fingerprint, machine_of, units
from negguide.experiment.files import is_full
from negguide.experiment.models import Model, load_model

POLL = 0.5
"""Seconds between two looks at units that others work on."""
LEAST_FREE = 2**20
"""Bytes without which no picture is begun."""
NOTES = 10
"""So many different warnings are kept."""

Load = Callable[[ModelPlan, str], Model]
"""Brings a model onto a device."""

Progress = Callable[[str, float], None]
"""Told what is being made and how many pictures more are done."""


@dataclasses.dataclass
class Outcome:
    """What a run did. `pictures`: of the plan; `there`: before the run; `made`: by this process; `errors`: a line each.

    Of `seconds`, `calling` went by inside the pipeline, `loading` for models, `checking` for pictures that were there; the
    rest is the batch's own. `notes`: what should be known. `stopped`: it was asked to end before all was made.
    """

    pictures: int = 0
    there: int = 0
    made: int = 0
    missing: int = 0
    seconds: float = 0.0
    calling: float = 0.0
    loading: float = 0.0
    checking: float = 0.0
    errors: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    is_main: bool = True
    stopped: bool = False


class DiskFull(Exception):
    """Nothing more can be written, so that making more pictures would be for nothing."""


def run(
    plan: Plan,
    only: str | None = None,
    progress: Progress = lambda what, pictures: None,
    load: Load | None = None,
    place: Place | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Make the pictures of a plan that are not there yet, into `plan.output`; errors of units are recorded, not raised.

    Start it in as many processes as you like, by `accelerate launch` or by hand, at the same time or later: each picture is
    made by one of them, and those that die are replaced by the others. `only`: the pictures whose key begins so.
    `load`: how a model gets onto a device, in place of `load_model`. `place`: which of the processes this one is, in
    place of what `accelerate launch` says. `stop`: asked before each unit; when it says yes the run ends in order.

    The first write that a disk refuses (full, quota, read-only) ends the run: what is there stays, and is told.
    """
    started = time.monotonic()
    root = plan.folder
    place = place or place_of_process(plan.device)
    load = load or load_here
    forget_sizes()
    with pinned_threads(plan.threads), Claims(root, lease=plan.lease * 60) as claims:
        store = Store(root, claims.name)
        outcome = Outcome(is_main=place.is_main)
        all_units, loaded = _units(plan, place.device, load, only)
        if place.is_main and only is None:
            store.save_plan(plan)
        begun = time.monotonic()
        todo = store.missing(all_units)
        outcome.checking = time.monotonic() - begun
        outcome.pictures, outcome.there = count(all_units), count(all_units) - count(todo)
        outcome.notes += notes_before(store, all_units)
        worker = _Worker(store, claims, outcome, progress, place.rank, stop)
        try:
            for index, model in enumerate(plan.models):
                of_model = [unit for unit in todo if unit.model == model]
                start = (
                    place.rank * len(of_model) // place.world
                )  # ranks begin apart, so that they seldom want the same
                ready = partial(_ready, loaded.pop(index, None), partial(load, model, place.device))
                worker.work(of_model[start:] + of_model[:start], ready)
        except DiskFull as full:
            outcome.errors.append(str(full))
        _finish(store, outcome, all_units, place.is_main and only is None)
    if not claims.others():  # whoever leaves last puts out the light
        store.tidy()
        claims.clear()
    outcome.seconds = time.monotonic() - started
    return outcome


def conclude(plan: Plan, only: str | None = None) -> Outcome:
    """What is there of a plan when others have worked on it; writes its table."""
    store = Store(plan.folder)
    outcome = Outcome()
    all_units, _ = _units(plan, plan.device, load_here, only)
    outcome.pictures = count(all_units)
    _finish(store, outcome, all_units, only is None)
    return outcome


class _Worker:
    """One process at work."""

    def __init__(
        self,
        store: Store,
        claims: Claims,
        outcome: Outcome,
        progress: Progress,
        rank: int,
        stop: Callable[[], bool],
    ) -> None:
        self.store, self.claims, self.outcome, self.rank, self.stop = store, claims, outcome, rank, stop
        self._progress = progress

    def work(self, todo: Sequence[Unit], load: Callable[[], Model]) -> None:
        """Make or see made all of these units of one model, which is loaded when the first one is claimed."""
        model: Model | None = None
        pending = list(todo)
        while pending:
            busy = []
            for unit in pending:
                if self.stop():
                    self.outcome.stopped = True
                    return
                self._check_disk()
                try:
                    state = self.claims.take(unit.id)
                except OSError as error:
                    self._failed(unit, error)
                    continue
                if state == "busy":
                    busy.append(unit)
                if state != "mine":
                    continue
                try:
                    model = model or self._load(load)
                except ValueError as error:
                    self._failed(unit, error)
                else:
                    self._make(model, unit)
                self.claims.finish(unit.id)
            pending = busy
            if pending:
                time.sleep(POLL)

    def _load(self, load: Callable[[], Model]) -> Model:
        begun = time.monotonic()
        model = load()
        self.outcome.loading += time.monotonic() - begun
        return model

    def _make(self, model: Model, unit: Unit) -> None:
        what = f"{unit.variant.label} · {unit.task.prompt}"
        try:
            with warnings.catch_warnings(record=True) as heard:
                result = make_unit(model, unit, partial(self._tell, what))
            note_warnings(self.outcome, unit, heard)
            records = [self._record(unit, seed, data, result) for seed, data in result.files]
            self.store.record(records)
        except Exception as error:  # whatever it is, the other units must go on
            self._failed(unit, error)
            return
        self.outcome.made += len(unit.seeds)
        note_split(self.outcome, unit, result)
        self.outcome.calling += result.seconds

    def _tell(self, what: str, pictures: float) -> None:
        self.claims.signs.gets_on()
        self._progress(what, pictures)

    def _check_disk(self) -> None:
        """A full disk is better met before a call of the pipeline than after it."""
        with contextlib.suppress(OSError):
            if shutil.disk_usage(self.store.root).free < LEAST_FREE:
                raise DiskFull(_full(self.store.root, f"less than {LEAST_FREE // 2**20} MiB are free"))

    def _record(self, unit: Unit, seed: int, data: bytes, result: Result) -> Record:
        return {**self.store.put(unit, seed, data), **about_picture(unit, seed, result), **self._now()}

    def _failed(self, unit: Unit, error: BaseException) -> None:
        if is_full(error):
            raise DiskFull(_full(self.store.root, getattr(error, "strerror", None) or str(error))) from error
        record, line = about_failure(unit, error)
        self.outcome.errors.append(line)
        with contextlib.suppress(OSError):
            self.store.record([{**record, **self._now()}])

    def _now(self) -> Record:
        return made_now(self.claims.name, self.rank)


def note_split(outcome: Outcome, unit: Unit, result: Result) -> None:
    """The key says which seeds belong to a call, not into how many parts memory forced it; only roundings tell."""
    if result.calls > 1 and not any(note.startswith("memory ran out") for note in outcome.notes):
        outcome.notes.append(
            f"memory ran out: {unit.variant.label} was made in {result.calls} calls of fewer pictures, which may be rounded "
            "otherwise than those of whole calls (`calls` in the records); for one size everywhere, give a smaller batch"
        )


def note_warnings(outcome: Outcome, unit: Unit, heard: Sequence[warnings.WarningMessage]) -> None:
    """Keep what a method warned of (a setting without effect, a watcher that cannot be had), for the end."""
    for warning in heard:
        note = f"{unit.variant.label}: {' '.join(str(warning.message).split())}"
        if issubclass(warning.category, UserWarning) and note not in outcome.notes and len(outcome.notes) < NOTES:
            outcome.notes.append(note)


def _full(root: Path, reason: str) -> str:
    return f"stopped: nothing more can be written to {str(root)!r} ({reason}); make room, and the same line goes on"


def _ready(loaded: Model | None, load: Callable[[], Model]) -> Model:
    return loaded or load()


def load_here(model: ModelPlan, device: str) -> Model:
    """Bring a plan's model onto a device."""
    return load_model(model.name, model.dtype, device)


def load_unknown(plan: Plan, device: str, load: Load) -> dict[int, Model]:
    """Models of the Hub that are not here yet, by their place in the plan: their content is in the keys."""
    loaded = {}
    for place, model in enumerate(plan.models):
        if fingerprint(model.name) == model.name:
            loaded[place] = load(model, device)
            fingerprint.cache_clear()
    return loaded


def _units(plan: Plan, device: str, load: Load, only: str | None) -> tuple[list[Unit], dict[int, Model]]:
    """The units of a plan, and the models that had to be loaded to know them."""
    loaded = load_unknown(plan, device, load)
    all_units = list(units(plan, machine_of(device)))
    if only is not None:
        all_units = [unit for unit in all_units if any(unit.key(seed).startswith(only) for seed in unit.seeds)]
        if not all_units:
            raise ValueError(f"no picture of this plan has a key that begins with {only!r}")
    return all_units, loaded


def _finish(store: Store, outcome: Outcome, all_units: Sequence[Unit], merges: bool) -> None:
    """See what is there now, and put the table beside it (if `merges`)."""
    store.reload()
    outcome.missing = sum(unit.key(seed) not in store.records for unit in all_units for seed in unit.seeds)
    if not merges:
        return
    try:
        store.merge(all_units)
    except OSError as error:
        outcome.errors.append(f"the table of pictures: {error.strerror or error}")
