"""What of the settings has no effect, or makes a comparison unfair: told on the page and by the API, never left out in silence."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from negguide.demo.options import Options
from negguide.demo.settings import Asked, Settings
from negguide.experiment.arms import WEIGHT, Part
from negguide.experiment.defaults import defaults_of
from negguide.experiment.tasks import describe
from negguide.methods import Negative
from negguide.names import bundled_model


def of_all(settings: Settings, asked: Sequence[Asked]) -> tuple[str, ...]:
    """What holds for the whole comparison."""
    remarks = list(_strange_words(settings, asked[0].request.tasks[0].negatives))
    if len(asked) == 1:
        remarks.append("No method is chosen, so only plain pictures are made: say how to say no, and compare.")
    weights = {compared.label: weight for compared in asked[1:] if (weight := _weight(compared.arm.parts)) is not None}
    if len(set(weights.values())) > 1:
        each = ", ".join(f"{label.partition(':')[0]} {weight:g}" for label, weight in weights.items())
        remarks.append(f"The weights differ ({each}), so the methods are not compared at the same strength.")
    return tuple(remarks)


def fewer_steps(settings: Settings, options: Options) -> tuple[str, ...]:
    """That the limit of this server is below what the model is meant for, where no steps are set."""
    usual = defaults_of(settings.model).steps
    if settings.steps is not None or usual <= options.steps:
        return ()
    return (f"{settings.model} is meant for {usual} steps; {options.steps} are made, the most that is allowed here.",)


def of_one(asked: Asked, settings: Settings) -> tuple[str, ...]:
    """What of the settings this arm makes no use of; nothing for the plain one, which is meant to make none."""
    arm, negatives = asked.arm, asked.request.tasks[0].negatives
    if not arm.parts:
        return ()
    remarks = []
    if negatives and not any(_uses_negatives(part) for part in arm.parts):
        remarks.append(f"{_texts(negatives)} has no effect here: {_names(arm.parts)} takes no negatives from you.")
    elif idle := [negative for negative in negatives if negative.is_idle]:
        remarks.append(f"{_texts(idle)} has no effect: its weight is 0, or its window is closed.")
    if settings.mask and not any(_uses_mask(part) for part in arm.parts):
        remarks.append(f"The painted region has no effect here: {_names(arm.parts)} acts on the whole picture.")
    if settings.pictures and not any(_uses_pictures(part) for part in arm.parts):
        remarks.append(
            "The pictures to avoid have no effect here: choose negtome, spell or particle_guidance for them."
        )
    return tuple(remarks)


def strange_words(text: str, model: str) -> tuple[str, ...]:
    """The words of a text that a bundled model has never seen; () for models that may know any word."""
    bundled = bundled_model(model)
    return tuple(bundled.bundle.strange(text)) if bundled is not None and bundled.bundle.strange is not None else ()


def _strange_words(settings: Settings, negatives: Sequence[Negative]) -> tuple[str, ...]:
    texts = " ".join([settings.prompt.partition("--no ")[0], *(str(negative.prompt) for negative in negatives)])
    words = dict.fromkeys(strange_words(texts, settings.model))
    if not words:
        return ()
    are = "is a word" if len(words) == 1 else "are words"
    return (
        f"{', '.join(map(repr, words))} {are} that {settings.model} has never seen: it draws as if they were not there.",
    )


def _uses_negatives(part: Part) -> bool:
    """Those of the page: as negatives, or (a guard) as what it watches for."""
    guards = "guard" in (part.options.get("policy"), part.entry.presets.get("policy"))
    return part.entry.takes_negatives or guards


def _uses_mask(part: Part) -> bool:
    return "mask" in part.options or any(
        isinstance(negative, dict) and "mask" in negative for negative in part.options.get("negatives", ())
    )


def _uses_pictures(part: Part) -> bool:
    return bool(part.options.get("references")) or isinstance(part.options.get("reference"), list)


def _weight(parts: Sequence[Part]) -> float | None:
    return next((float(part.options.get(WEIGHT, 1)) for part in parts if part.entry.takes_negatives), None)


def _names(parts: Sequence[Part]) -> str:
    return " with ".join(part.entry.name for part in parts)


def _texts(negatives: Sequence[Negative]) -> str:
    plain = [dataclasses.replace(negative, weight=1.0) for negative in negatives]
    return ", ".join(repr(describe(negative).partition("@")[0]) for negative in plain)
