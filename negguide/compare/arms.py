"""What is compared: arms such as `plain`, `perp_neg`, `ccfg:tau=1` or `perp_neg+apg`, read from text."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from negguide.methods import METHODS, Method, Negative
from negguide.methods.registry import Entry

PLAIN = "plain"
"""The arm without any method: the pipeline as it is, without a negative."""

WEIGHT = "weight"
"""An option of every method that takes negatives: the weight of those that have none of their own."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One method of an arm, before it knows the negatives."""

    entry: Entry
    options: Mapping[str, Any]

    def build(self, negatives: Sequence[Negative]) -> Method:
        """The method for these negatives. `ValueError` if it needs one and there is none."""
        if not self.entry.takes_negatives:
            return self.entry(**self.options)
        if not negatives:
            raise ValueError(f"{self.entry.name} needs a negative")
        options = dict(self.options)
        if WEIGHT in options:
            weight = options.pop(WEIGHT)
            negatives = [dataclasses.replace(one, weight=one.weight * weight) for one in negatives]
        return self.entry(tuple(negatives), **options)


@dataclasses.dataclass(frozen=True)
class Arm:
    """One row of the comparison: the methods that act together, under the label the user wrote."""

    label: str
    parts: tuple[Part, ...] = ()

    def build(self, negatives: Sequence[Negative]) -> tuple[Method, ...]:
        """The methods for these negatives, in order; () for `plain`."""
        return tuple(part.build(negatives) for part in self.parts)

    @property
    def needs_negatives(self) -> bool:
        return any(part.entry.takes_negatives for part in self.parts)

    @property
    def summary(self) -> str:
        """What it does, in one line."""
        return "; ".join(part.entry.summary for part in self.parts) or "the pipeline as it is, without a negative"


def parse_arms(text: str) -> tuple[Arm, ...]:
    """`"plain,perp_neg:weight=2,negative+apg"` -> arms, in this order.

    Arms are separated by commas, methods that act together by `+`; an option is `:name=value`, its value JSON or a
    word. `weight` multiplies the weights of the negatives, for all methods that take them. `ValueError` says what is
    wrong: an unknown method or option (with the closest known one), a value that does not fit, an arm given twice.
    """
    labels = [label.strip() for label in text.split(",") if label.strip()]
    if not labels:
        raise ValueError(f"no method is named in {text!r}; known: {', '.join([PLAIN, *METHODS])}")
    if twice := [label for place, label in enumerate(labels) if label in labels[:place]]:
        raise ValueError(f"method {twice[0]!r} is given twice")
    return tuple(_arm(label) for label in labels)


def _arm(label: str) -> Arm:
    if label == PLAIN:
        return Arm(PLAIN)
    arm = Arm(label, tuple(_part(word.strip()) for word in label.split("+")))
    try:
        arm.build([Negative("something")])
    except (TypeError, ValueError) as error:
        raise ValueError(f"method {label!r}: {error}") from error
    return arm


def _part(text: str) -> Part:
    name, *pairs = text.split(":")
    if name not in METHODS:
        alone = " ('plain' has nothing to be combined with)" if name == PLAIN else ""
        raise ValueError(f"unknown method {name!r}{alone}{_closest(name, [PLAIN, *METHODS])}")
    entry = METHODS[name]
    known = [field.name for field in dataclasses.fields(entry.method) if field.name != "negatives"]
    known += [WEIGHT] if entry.takes_negatives else []
    options: dict[str, Any] = {}
    for pair in pairs:
        option, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"in {text!r}, {pair!r} is not an option; options are written name=value")
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}{_closest(option, known)}")
        options[option] = _value(value)
    if WEIGHT in options and not (isinstance(options[WEIGHT], int | float) and 0 <= options[WEIGHT] < float("inf")):
        raise ValueError(f"the weight {options[WEIGHT]!r} of {name} is not a finite number of 0 or more")
    return Part(entry, options)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _closest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return (f"; did you mean {close[0]!r}?" if close else ";") + f" known: {', '.join(known)}"
