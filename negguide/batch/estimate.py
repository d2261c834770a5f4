"""What a plan will cost: pictures, denoiser passes, time; without loading a model where that can be avoided."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from negguide.batch.plan import ModelPlan
from negguide.batch.store import Store
from negguide.batch.units import Unit, count
from negguide.experiment.models import Model
from negguide.experiment.sampling import make
from negguide.methods import UNCONDITIONAL, Condition, Method, Step
from negguide.methods.state import RunState

TRIED_STEPS = 2


@dataclasses.dataclass(frozen=True)
class Estimate:
    """`passes`: denoiser passes of what is missing; `seconds`: on one device like this one, None where nothing is known."""

    pictures: int
    missing: int
    calls: int
    passes: float
    seconds: float | None
    source: str


def estimate(
    all_units: Sequence[Unit], missing: Sequence[Unit], store: Store, load: Callable[[ModelPlan], Model]
) -> Estimate:
    """The cost of the missing units, timed by pictures of this folder, else by a short call of each model.

    `load` may refuse with `ValueError` (a model that would have to be downloaded): then the time stays unknown.
    """
    of_a_picture: dict[object, float] = {}  # all groups of seeds of a prompt and method cost alike
    passes = {}
    for unit in missing:
        key = (unit.model, unit.place)
        if key not in of_a_picture:
            of_a_picture[key] = expected_passes(unit)
        passes[id(unit)] = of_a_picture[key] * len(unit.seeds)
    seconds, source = 0.0, set()
    for model in dict.fromkeys(unit.model for unit in missing):
        of_model = [unit for unit in missing if unit.model == model]
        pace = _recorded(store, model)
        how_timed = "by the pictures that are there"
        if pace is None:
            pace, how_timed = _tried(of_model[0], load), f"by a call of {TRIED_STEPS} steps"
        if pace is None:
            return Estimate(count(all_units), count(missing), len(missing), sum(passes.values()), None, "not timed")
        seconds += pace * sum(passes[id(unit)] for unit in of_model)
        source.add(how_timed)
    total = sum(passes.values())
    return Estimate(count(all_units), count(missing), len(missing), total, seconds, ", ".join(sorted(source)))


def expected_passes(unit: Unit) -> float:
    """Denoiser passes of each picture of a unit, counted from what its methods ask for; those that look at the picture
    count as if open.
    """
    try:
        methods = unit.methods()
    except (TypeError, ValueError):
        return 0.0
    steps = unit.settings.steps
    return sum(_passes_of(methods, _step(index, steps), {}) for index in range(steps))


def _passes_of(methods: Sequence[Method], step: Step, state: RunState) -> float:
    asked: dict[Condition, bool] = {}
    try:
        if not all(method.guides(step) for method in methods):
            return 1.0
        for method in methods:
            for condition in method.conditions(step, state):
                asked[condition] = asked.get(condition, False) or condition.role == "base"
    except Exception:  # a method that needs the running model to answer
        for method in methods:
            asked |= dict.fromkeys(method.prompts(), False)
    if not any(asked.values()):
        asked[UNCONDITIONAL] = True  # the pipeline's own
    return 1.0 + len(asked)


def _step(index: int, steps: int) -> Step:
    """A step as methods see it, with a noise level that falls as in Stable Diffusion; it holds no picture."""
    left = 1 - index / steps
    sigma = 14.6 * left**3
    nothing: Any = None
    return Step(index, steps, sigma, 1000 * left, nothing, "epsilon", nothing, nothing, nothing)


def _recorded(store: Store, model: ModelPlan) -> float | None:
    """Seconds per pass of this model's pictures in the folder, the median."""
    rows = [row for row in store.records.values() if row.get("model") == model.name and row.get("passes")]
    paces = sorted(row["seconds"] / row["passes"] for row in rows)
    return paces[len(paces) // 2] if paces else None


def _tried(unit: Unit, load: Callable[[ModelPlan], Model]) -> float | None:
    try:
        model = load(unit.model)
        settings = dataclasses.replace(unit.settings, steps=min(TRIED_STEPS, unit.settings.steps))
        make(model, settings, unit.task.prompt, (), unit.seeds)  # the first call sets things up
        result = make(model, settings, unit.task.prompt, (), unit.seeds)
    except Exception:  # whatever it is, the run will tell it
        return None
    return result.seconds / (result.passes * len(unit.seeds)) if result.passes else None


def in_words(seconds: float) -> str:
    """`"45 s"`, `"12 min"`, `"3.5 h"`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
