"""What is compared: arms such as `plain`, `perp_neg`, `ccfg:tau=1` or `perp_neg+apg`, read from text."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from negguide.methods import METHODS, Method, Negative, from_dict
from negguide.methods.registry import Entry
from negguide.wording import did_you_mean

PLAIN = "plain"
"""The arm without any method: the pipeline as it is, without a negative."""

WEIGHT = "weight"
"""An option of every method that takes negatives: the weight of those that have none of their own."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One method of an arm, before it knows the negatives."""

    entry: Entry
    options: Mapping[str, Any]
    watcher: str | None = None

    @property
    def needs_negatives(self) -> bool:
        """Whether it cannot be built without a negative: one that takes them, or a guard that is not told what to watch for."""
        return self.takes_negatives or self._watches_negatives

    @property
    def _watches_negatives(self) -> bool:
        policy = self.options.get("policy", self.entry.presets.get("policy"))
        return policy == "guard" and "watch" not in self.options

    @property
    def takes_negatives(self) -> bool:
        """Whether it wants those of the prompt; a config may bring its own."""
        return self.entry.takes_negatives and "negatives" not in self.options

    def build(self, negatives: Sequence[Negative]) -> Method:
        """The method for these negatives. `ValueError` if it needs one and there is none."""
        options: dict[str, Any] = {"method": self.entry.name, **self.options}
        if self.needs_negatives and not negatives:
            raise ValueError(f"{self.entry.name} needs a negative")
        if "watcher" in (field.name for field in dataclasses.fields(self.entry.method)):
            options = self._watching(options, negatives)
        if not self.takes_negatives:
            return from_dict(options)
        if WEIGHT in options:
            weight = options.pop(WEIGHT)
            negatives = [dataclasses.replace(negative, weight=negative.weight * weight) for negative in negatives]
        return from_dict({**options, "negatives": tuple(negatives)})

    def _watching(self, options: dict[str, object], negatives: Sequence[Negative]) -> dict[str, object]:
        """With the watcher of the model at hand where none is named, and with the negatives as what a guard watches for."""
        if "watcher" not in options and self.watcher is None:
            name = self.entry.name
            raise ValueError(
                f"{name} needs a watcher: {name}:watcher=vqa:MODEL or chat:MODEL (the Toybox has its own, {name}:watcher=toybox)"
            )
        if self._watches_negatives:
            options = {**_shared_by(negatives), **options, "watch": [str(negative.prompt) for negative in negatives]}
        return options if "watcher" in options else {"watcher": self.watcher, **options}


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
        return any(part.needs_negatives for part in self.parts)

    @property
    def summary(self) -> str:
        """What it does, in one line."""
        return "; ".join(part.entry.summary for part in self.parts) or "the pipeline as it is, without a negative"


def parse_arms(text: str, watcher: str | None = None) -> tuple[Arm, ...]:
    """`"plain,perp_neg:weight=2,negative+apg"` -> arms, in this order.

    Arms are separated by commas, methods that act together by `+`; an option is `:name=value`, its value JSON or a
    word, and a window is written `0-0.4`, `(0,0.4)` or `14.6-1sigma`; what stands in brackets or quotes belongs
    together. `weight` multiplies the weights of the negatives, for all methods that take them. `watcher`: who watches
    where a method needs one and the text names none. `ValueError` says what is wrong: an unknown method or option
    (with the closest known one), a value that does not fit, an arm given twice.
    """
    labels = [label.strip() for label in _split(text, ",") if label.strip()]
    if not labels:
        raise ValueError(f"no method is named in {text!r}; known: {', '.join([PLAIN, *METHODS])}")
    if twice := [label for place, label in enumerate(labels) if label in labels[:place]]:
        raise ValueError(f"method {twice[0]!r} is given twice")
    return tuple(_arm(label, watcher) for label in labels)


def _arm(label: str, watcher: str | None) -> Arm:
    if label == PLAIN:
        return Arm(PLAIN)
    return make_arm(label, [dataclasses.replace(part, watcher=watcher) for part in parse_parts(label)])


def parse_parts(label: str) -> list[Part]:
    """The methods of one arm, `"perp_neg:weight=2+apg"`, before it is known whether they can be built."""
    return [_part(word.strip()) for word in _split(label, "+")]


def format_part(part: Part) -> str:
    """A part as `parse_arms` reads it: `perp_neg:weight=2`. Inverse of reading it; `TypeError` for what is no JSON."""
    options = [f"{name}={json.dumps(value, separators=(',', ':'))}" for name, value in part.options.items()]
    return ":".join([part.entry.name, *options])


def make_arm(label: str, parts: Sequence[Part]) -> Arm:
    """An arm whose parts can be built; `ValueError` says why one cannot."""
    arm = Arm(label, tuple(parts))
    try:
        arm.build([Negative("something")])
    except (TypeError, ValueError) as error:
        raise ValueError(f"method {label!r}: {error}") from error
    return arm


def make_part(name: str, options: Mapping[str, Any]) -> Part:
    """A method by name with options as JSON values, and `weight`; `ValueError` for names and options that are not known."""
    if name not in METHODS:
        if name == PLAIN:
            raise ValueError("plain is the pipeline without any method; name it alone, as in plain,perp_neg")
        raise ValueError(f"unknown method {name!r}{_closest(name, [PLAIN, *METHODS])}")
    entry = METHODS[name]
    fields = [field.name for field in dataclasses.fields(entry.method)]
    fields += [WEIGHT] if entry.takes_negatives and "negatives" not in options else []
    for option in options:
        if option not in fields:
            raise ValueError(f"{name} has no option {option!r}{_closest(option, fields)}")
    if WEIGHT in options and not (isinstance(options[WEIGHT], int | float) and 0 <= options[WEIGHT] < float("inf")):
        raise ValueError(f"the weight {options[WEIGHT]!r} of {name} is not a finite number of 0 or more")
    return Part(entry, dict(options))


def _shared_by(negatives: Sequence[Negative]) -> dict[str, object]:
    """The weight and window of negatives as options of a guard, which has one of each for all that it sees."""
    if len({(negative.weight, negative.window) for negative in negatives}) > 1:
        raise ValueError(
            "a guard has one weight and one window for all that it watches for; give all negatives the same"
        )
    if any(negative.instead_of is not None for negative in negatives):
        raise ValueError("a guard cannot say what should stand in a negative's place; leave instead_of out")
    return {"weight": negatives[0].weight, "window": dataclasses.asdict(negatives[0].window)}


def _part(text: str) -> Part:
    name, *pairs = _split(text, ":")
    options: dict[str, object] = {}
    for pair in pairs:
        option, equals, value = pair.partition("=")
        if not equals and options and isinstance(last := options[next(reversed(options))], str):
            options[next(reversed(options))] = f"{last}:{pair}"  # watcher=vqa:org/name
            continue
        if not equals:
            raise ValueError(f"in {text!r}, {pair!r} is not an option; options are written name=value")
        if option == "negatives" and not value.startswith("[{"):
            raise ValueError(f"in {text!r}, negatives are not an option: they belong to the prompt")
        options[option] = _value(value)
    return make_part(name, options)


def _value(text: str) -> object:
    try:
        return json.loads(f"[{text[1:-1]}]" if text.startswith("(") and text.endswith(")") else text)
    except json.JSONDecodeError:
        return text


def _split(text: str, mark: str) -> list[str]:
    """The words between the marks that stand outside of brackets and quotes."""
    words, depth, quoted, start, skip = [], 0, False, 0, False
    for at, letter in enumerate(text):
        if skip:
            skip = False
        elif quoted:
            skip, quoted = letter == "\\", letter != '"'
        elif letter == '"':
            quoted = True
        elif letter in "[{(":
            depth += 1
        elif letter in "]})":
            depth -= 1
        elif letter == mark and depth <= 0:
            words.append(text[start:at])
            start = at + 1
    return [*words, text[start:]]


def _closest(name: str, names: Sequence[str]) -> str:
    return f"{did_you_mean(name, names, ';')} known: {', '.join(names)}"
