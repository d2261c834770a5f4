"""Rows of the comparison from what a plan says: texts, JSON configs and sweeps become arms with labels."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from negguide.experiment.arms import PLAIN, WEIGHT, Arm, Part, make_arm, make_part, parse_arms

LONG = 100


@dataclasses.dataclass(frozen=True)
class Variant:
    """One row: an arm, and the guidance scale and steps that hold for it only (None: those of the plan).

    `strength`: the value that a sweep gave it, for plots; `family`: the label of the sweep.
    """

    arm: Arm
    guidance: float | None = None
    steps: int | None = None
    family: str = ""
    strength: str = ""

    @property
    def label(self) -> str:
        return self.arm.label


def make_variants(
    use: Sequence[str | Mapping[str, object]],
    name: str | None,
    sweep: Mapping[str, Sequence[object]],
    guidance: float | None,
    steps: int | None,
) -> tuple[Variant, ...]:
    """One variant, or one per combination of the sweep. `ValueError` for what cannot be built, with what is possible.

    A key of the sweep is an option (`weight`), `method.option` where several methods have it, or `guidance`.
    """
    parts = [part for item in use for part in _parts(item)]
    family = name or "+".join(map(_text, parts)) or PLAIN
    if not sweep:
        label = name or _with_guidance(family, guidance)
        return (Variant(make_arm(label, parts), guidance, steps, family=label),)
    variants = []
    for values in itertools.product(*sweep.values()):
        chosen, scale, notes = list(parts), guidance, []
        for key, value in zip(sweep, values, strict=True):
            notes.append(f"{key}={json.dumps(value)}")
            if key == "guidance":
                if isinstance(value, bool) or not isinstance(value, int | float):
                    raise ValueError(f"the guidance {value!r} of a sweep is no number")
                scale = float(value)
            else:
                place, option = _place(chosen, key)
                chosen[place] = make_part(chosen[place].entry.name, {**chosen[place].options, option: value})
        label = f"{name} {' '.join(notes)}" if name else _with_guidance("+".join(map(_text, chosen)) or PLAIN, scale)
        variants.append(Variant(make_arm(label, chosen), scale, steps, family, ", ".join(notes)))
    return tuple(variants)


def _parts(item: str | Mapping[str, Any]) -> tuple[Part, ...]:
    if isinstance(item, str):
        arms = parse_arms(item)
        if len(arms) != 1:
            raise ValueError(
                f"{item!r} names {len(arms)} methods; write them as a list, or with + if they act together"
            )
        return arms[0].parts
    if not isinstance(item.get("method"), str):
        raise ValueError(f"{dict(item)!r} names no method; write {{method: perp_neg, ...}}")
    return (make_part(item["method"], {key: value for key, value in item.items() if key != "method"}),)


def _place(parts: Sequence[Part], key: str) -> tuple[int, str]:
    """Which part a key of the sweep means, and which option of it."""
    method, dot, option = key.rpartition(".")
    fitting = [place for place, part in enumerate(parts) if (part.entry.name == method if dot else _has(part, option))]
    if not fitting:
        raise ValueError(f"the sweep's {key!r} is no option of {'+'.join(p.entry.name for p in parts) or PLAIN}")
    if len(fitting) > 1:
        names = ", ".join(f"{parts[place].entry.name}.{option}" for place in fitting)
        raise ValueError(f"the sweep's {key!r} may mean {names}; write which")
    return fitting[0], option


def _has(part: Part, option: str) -> bool:
    fields = {field.name for field in dataclasses.fields(part.entry.method)}
    return option in fields or (option == WEIGHT and part.takes_negatives)


def _text(part: Part) -> str:
    """A part as `compare --methods` reads it, as far as its options have such a form."""
    pairs = [f":{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in part.options.items()]
    text = part.entry.name + "".join(pairs)
    return text if len(text) <= LONG else f"{text[: LONG - 8]}…{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def _with_guidance(text: str, guidance: float | None) -> str:
    return text if guidance is None else f"{text} at guidance {guidance:g}"
