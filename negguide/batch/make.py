"""Make the pictures of a unit; memory that runs out is met with smaller calls."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from negguide.batch.units import Unit
from negguide.experiment.metadata import PictureMetadata
from negguide.experiment.models import Model
from negguide.experiment.sampling import Made, make, png
from negguide.methods import Method

if TYPE_CHECKING:
    from PIL.Image import Image

    from negguide.engine.record import StepRecord

Tell = Callable[[float], None]
_WITHOUT_ROOM: WeakKeyDictionary[object, set[object]] = WeakKeyDictionary()
"""By pipeline: what a call was of (size, row of the plan, seeds, rows at a time) when memory ran out."""


@dataclasses.dataclass(frozen=True)
class Result:
    """Pictures of a unit as files. `calls`: of the pipeline; more than one when memory ran out."""

    files: list[tuple[int, bytes]]
    seconds: float
    about: dict[str, object]
    calls: int


def forget_sizes() -> None:
    """A run begins: what else filled the memory before may be gone."""
    _WITHOUT_ROOM.clear()


def make_unit(model: Model, unit: Unit, tell: Tell = lambda pictures: None) -> Result:
    """The pictures of a unit. Raises what its methods or the pipeline raise, `MemoryError` kinds after smaller calls, and
    `Lost` when a watcher failed: what is filed under a method was made by it.
    """
    methods = unit.methods()
    parts = _make(model, unit, methods, unit.seeds, tell)
    images = [image for part in parts for image in part.images]
    about = {"passes": parts[0].passes, "trace": summarise(parts[0].trace)}
    files = [
        (seed, png(image, _texts(unit, methods, seed, image, about)))
        for seed, image in zip(unit.seeds, images, strict=True)
    ]
    return Result(files, sum(part.seconds for part in parts), about, len(parts))


def _make(model: Model, unit: Unit, methods: Sequence[Method], seeds: Sequence[int], tell: Tell) -> list[Made]:
    """One call, or where memory runs out two halves; a group that must stay together gets smaller forwards instead.

    What had no room once is not tried again with this pipeline, size and row of the plan.
    """
    from negguide.engine.memory import free, is_out_of_memory

    together = len(seeds) == 1 or any(method.couples for method in methods)
    tries = _rows(len(seeds)) if together else [None]
    without_room = _WITHOUT_ROOM.setdefault(model.pipe, set())
    kind = (unit.settings.size, unit.variant.label)
    for rows in tries:
        if (kind, len(seeds), rows) in without_room and not (together and rows == tries[-1]):
            continue
        try:
            return [make(model, unit.settings, unit.task.prompt, methods, seeds, tell, rows, whole=True)]
        except Exception as error:
            if not is_out_of_memory(error) or (together and rows == tries[-1]):
                raise
            without_room.add((kind, len(seeds), rows))
        free()
    half = len(seeds) // 2
    return [result for part in (seeds[:half], seeds[half:]) for result in _make(model, unit, methods, part, tell)]


def _rows(count: int) -> list[int | None]:
    """What is tried one after the other: no limit, then ever fewer rows per forward, down to 1."""
    tries: list[int | None] = [None]
    while count > 1:
        tries.append(count)
        count //= 2
    return [*tries, 1]


def summarise(trace: Sequence[StepRecord]) -> list[dict[str, object]]:
    """Steps in runs of the same passes and methods: `{"steps": [0, 9], "passes": 3, "methods": ["perp_neg"]}`."""
    runs = []
    for (passes, methods), steps in itertools.groupby(trace, key=lambda step: (step.passes, step.methods)):
        indices = [step.index for step in steps]
        runs.append({"steps": [indices[0], indices[-1]], "passes": passes, "methods": list(methods)})
    return runs


def _texts(unit: Unit, methods: Sequence[Method], seed: int, image: Image, about: dict[str, Any]) -> dict[str, str]:
    """What stands inside a picture: all that made it, nothing that differs when it is made again."""
    metadata = PictureMetadata.of(
        unit.task,
        methods,
        seed,
        unit.seeds,
        unit.model.name,
        unit.settings,
        str(unit.about["dtype"]),
        float(about["passes"]),
    )
    return metadata.texts(
        model_content=str(unit.about["model"]),
        trace=json.dumps(about["trace"]),
        key=unit.key(seed),
        pixels=hashlib.sha256(image.tobytes()).hexdigest(),
    )
