"""What a person may set of each method, found in its config: kinds of values, ranges, defaults and help.

Only what has a control is taken from a page, an API call, a link or a file: no paths, no models, no functions.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from negguide.demo.configs import bounds_of, help_of
from negguide.experiment.arms import WEIGHT
from negguide.methods import METHODS, Window
from negguide.methods.adaptive import KINDS
from negguide.methods.negative import as_window
from negguide.methods.policy import POLICIES
from negguide.methods.registry import Entry

Kind = Literal["number", "whole", "flag", "choice", "text", "texts", "window"]
Value = Any

CHOICES: Mapping[str, Sequence[str]] = {
    "policy": tuple(POLICIES),
    "kind": tuple(KINDS),
    "reference": ("first", "all"),
}
"""Fields whose possible texts their type does not tell."""
WATCHER = "watcher"
LONGEST, MOST = 300, 16
"""Letters of a text; texts of a list."""


@dataclasses.dataclass(frozen=True)
class Control:
    """One option of a method. `default`: a JSON value, None where the method decides (`optional`). `low`, `high`: None
    where there is no bound. `choices`: of kind "choice".
    """

    method: str
    field: str
    kind: Kind
    default: Value
    low: float | None = None
    high: float | None = None
    optional: bool = False
    choices: tuple[str, ...] = ()
    help: str = ""

    @property
    def label(self) -> str:
        return self.field.replace("_", " ")

    def read(self, shown: Any) -> Value:
        """What a component holds -> the option as a JSON value. `ValueError` says what is possible."""
        if self.kind == "texts" and isinstance(shown, str):
            shown = [text.strip() for text in shown.split(",") if text.strip()]
        elif self.kind == "window" and isinstance(shown, str) and shown.strip():
            shown = _window_of(shown)
        elif isinstance(shown, str):
            shown = shown.strip()
        if shown is None or shown == "" or (self.optional and shown == []):
            return None if self.optional else self.default
        return self.check(shown)

    def show(self, value: Value) -> Any:
        """An option -> what its component holds."""
        if value is None:
            return None if self.kind in ("number", "whole", "choice") else ""
        if self.kind == "texts":
            return ", ".join([value] if isinstance(value, str) else value)
        return _window_text(value) if self.kind == "window" else value

    def check(self, value: Value) -> Value:
        """A JSON value that is fit for this option. `ValueError` says what is possible."""
        if value is None and self.optional:
            return None
        if self.kind in ("number", "whole"):
            return self._number(value)
        if self.kind == "flag" and isinstance(value, bool):
            return value
        if self.kind == "choice" and value in self.choices:
            return value
        if self.kind == "text" and isinstance(value, str) and len(value) <= LONGEST:
            return value
        if self.kind == "texts":
            texts = [value] if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else [None]
            if len(texts) <= MOST and all(isinstance(text, str) and len(text) <= LONGEST for text in texts):
                return texts
        if self.kind == "window" and isinstance(value, list | tuple | dict):
            try:
                return _window_value(as_window(value))
            except TypeError as error:
                raise ValueError(f"{self._name}: {error}") from error
        possible = {
            "flag": "true or false",
            "choice": ", ".join(self.choices),
            "text": f"a text of at most {LONGEST} letters",
            "texts": f"at most {MOST} texts",
            "window": "0-0.4 in fractions of sampling, or 14.6-1sigma",
        }[self.kind]
        raise ValueError(f"{self._name} is {value!r:.80}; possible: {possible}")

    @property
    def _name(self) -> str:
        return f"{self.field} of {self.method}"

    def _number(self, value: Any) -> float | int:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{self._name} is {value!r:.80}; a number is needed")
        if self.kind == "whole" and value != int(value):
            raise ValueError(f"{self._name} is {value:g}; a whole number is needed")
        low, high = self.low, self.high
        if (low is not None and value < low) or (high is not None and value > high):
            bounds = (
                f"from {low:g} to {high:g}"
                if None not in (low, high)
                else f"at {'least' if high is None else 'most'} {low if high is None else high:g}"
            )
            raise ValueError(f"{self._name} is {value:g}; possible: {bounds}")
        return int(value) if self.kind == "whole" else value


@lru_cache(maxsize=8)
def all_controls(watchers: tuple[str, ...]) -> Mapping[str, tuple[Control, ...]]:
    """Registered name -> controls of the method, in the order of its fields."""
    return {name: controls_of(entry, watchers) for name, entry in METHODS.items()}


def controls_of(entry: Entry, watchers: Sequence[str]) -> tuple[Control, ...]:
    """The controls of one method, those of its options that the name presets left out."""
    found = []
    if entry.takes_negatives:
        found.append(
            Control(
                entry.name,
                WEIGHT,
                "number",
                1.0,
                0.0,
                10.0,
                help="Multiplies the weight of every negative for this method.",
            )
        )
    hints = get_type_hints(entry.method)
    for field in dataclasses.fields(entry.method):
        if field.name in entry.presets or field.name == "negatives":
            continue
        if field.name == WATCHER:
            found.append(
                Control(
                    entry.name,
                    WATCHER,
                    "choice",
                    watchers[0],
                    choices=tuple(watchers),
                    help=help_of(entry.method, WATCHER),
                )
            )
        elif control := _control(entry, field, hints[field.name]):
            found.append(control)
    return tuple(found)


def _control(entry: Entry, field: dataclasses.Field[Any], hint: Any) -> Control | None:
    default = _default(field)
    parts = _parts(hint)
    optional = type(None) in parts
    more: dict[str, Any] = {"optional": optional, "help": help_of(entry.method, field.name)}
    if field.name in CHOICES and (str in parts or Any in parts):
        return Control(entry.name, field.name, "choice", default, choices=tuple(CHOICES[field.name]), **more)
    if literal := [choice for part in parts if get_origin(part) is Literal for choice in get_args(part)]:
        if all(isinstance(choice, str) for choice in literal):
            return Control(entry.name, field.name, "choice", default, choices=tuple(dict.fromkeys(literal)), **more)
        return None
    if Window in parts:
        return Control(
            entry.name, field.name, "window", None if default is None else _window_value(as_window(default)), **more
        )
    if bool in parts:
        return Control(entry.name, field.name, "flag", default, **more)
    if int in parts or float in parts:
        kind: Kind = "number" if float in parts else "whole"
        low, high = bounds_of(entry, field.name, default, kind)
        return Control(entry.name, field.name, kind, default, low, high, **more)
    if any(_is_texts(part) for part in parts):
        return Control(entry.name, field.name, "texts", _texts(default), **more)
    if str in parts and (default is None or isinstance(default, str)):
        return Control(entry.name, field.name, "text", default, **more)
    return None


def _texts(default: Any) -> list[str] | None:
    return default if default is None else [default] if isinstance(default, str) else list(default)


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else None


def _parts(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a type."""
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(part for one in get_args(hint) for part in _parts(one))
    return (hint,)


def _is_texts(part: Any) -> bool:
    """`Sequence[str]`, `Sequence[Literal[...]]` and unions with texts in them."""
    if get_origin(part) is not Sequence or not get_args(part):
        return False
    inner = _parts(get_args(part)[0])
    return str in inner or any(get_origin(one) is Literal for one in inner)


def _window_value(window: Window) -> list[Any]:
    return [window.start, window.stop] if window.unit == "progress" else [window.start, window.stop, window.unit]


def _window_text(value: Any) -> str:
    window = as_window(value)
    return f"{window.start:g}-{window.stop:g}{'' if window.unit == 'progress' else 'sigma'}"


def _window_of(text: str) -> list[Any]:
    from negguide.experiment.tasks import parse_negatives

    try:
        return _window_value(parse_negatives(f"x@{text.strip()}")[0].window)
    except ValueError as error:
        raise ValueError(
            f"the window {text!r} cannot be read; write 0-0.4 (fractions of sampling) or 14.6-1sigma"
        ) from error
