"""What a person may set of each method, found in its config: kinds of values, ranges, defaults and help.

Only what has a control is taken from a page, an API call, a link or a file: no paths, no models, no functions.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, get_args, get_origin

from negguide.experiment.arms import WEIGHT
from negguide.methods import METHODS, Window
from negguide.methods.options import Option, alternatives, default_of, option_of, possible_texts, types_of
from negguide.methods.registry import Entry
from negguide.methods.step import as_window

Kind = Literal["number", "whole", "flag", "choice", "text", "texts", "window"]
Value = Any

WATCHER = "watcher"
LONGEST, MOST = 300, 16
"""Letters of a text; texts of a list."""


@dataclasses.dataclass(frozen=True)
class Control:
    """One option of a method. `default`: a JSON value, None where the method decides (`optional`). `meaning`: help and range.
    `choices`: of kind "choice".
    """

    method: str
    field: str
    kind: Kind
    default: Value
    meaning: Option = dataclasses.field(default_factory=Option)
    optional: bool = False
    choices: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return self.field.replace("_", " ")

    def read(self, shown: object) -> Value:
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

    def show(self, value: Value) -> Value:
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

    def _number(self, value: object) -> float | int:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{self._name} is {value!r:.80}; a number is needed")
        if self.kind == "whole" and value != int(value):
            raise ValueError(f"{self._name} is {value:g}; a whole number is needed")
        if not self.meaning.holds(value):
            raise ValueError(f"{self._name} is {value:g}; possible: {self.meaning.range}")
        return int(value) if self.kind == "whole" else value


@lru_cache(maxsize=8)
def all_controls(watchers: tuple[str, ...]) -> Mapping[str, tuple[Control, ...]]:
    """Registered name -> controls of the method, in the order of its fields; without methods that need a file of this machine."""
    return {name: controls_of(entry, watchers) for name, entry in METHODS.items() if name in offered()}


def offered() -> list[str]:
    """Methods that work without anything that names a file of this machine."""
    return [name for name, entry in METHODS.items() if not any(map(_needs_file, dataclasses.fields(entry.method)))]


def _needs_file(field: dataclasses.Field[Any]) -> bool:
    has_default = dataclasses.MISSING is not field.default or dataclasses.MISSING is not field.default_factory
    return option_of(field).local and not has_default


def controls_of(entry: Entry, watchers: Sequence[str]) -> tuple[Control, ...]:
    """The controls of one method, those of its options that the name presets left out."""
    controls = []
    if entry.takes_negatives:
        controls.append(
            Control(
                entry.name,
                WEIGHT,
                "number",
                1.0,
                Option("Multiplies the weight of every negative for this method.", 0, 10),
            )
        )
    parts = types_of(entry.method)
    for field in dataclasses.fields(entry.method):
        if field.name in entry.presets or field.name == "negatives" or option_of(field).local:
            continue
        if field.name == WATCHER:
            controls.append(
                Control(
                    entry.name,
                    WATCHER,
                    "choice",
                    watchers[0],
                    option_of(field),
                    choices=tuple(watchers),
                )
            )
        elif control := _control(entry, field, parts[field.name]):
            controls.append(control)
    return tuple(controls)


def _control(entry: Entry, field: dataclasses.Field[Any], parts: Sequence[object]) -> Control | None:
    default, meaning = default_of(field), option_of(field)
    texts = possible_texts(meaning, parts)

    def control(kind: Kind, default: Value, choices: tuple[str, ...] = ()) -> Control:
        return Control(entry.name, field.name, kind, default, meaning, type(None) in parts, choices)

    if texts and (str in parts or Any in parts or any(get_origin(part) is Literal for part in parts)):
        return control("choice", default, texts)
    if Window in parts:
        return control("window", None if default is None else _window_value(as_window(default)))
    if bool in parts:
        return control("flag", default)
    if int in parts or float in parts:
        return control("number" if float in parts else "whole", default)
    if any(_is_texts(part) for part in parts):
        return control("texts", _texts(default))
    if str in parts and (default is None or isinstance(default, str)):
        return control("text", default)
    return None


def _texts(default: str | Sequence[str] | None) -> list[str] | None:
    return default if default is None else [default] if isinstance(default, str) else list(default)


def _is_texts(part: object) -> bool:
    """`Sequence[str]`, `Sequence[Literal[...]]` and unions with texts in them."""
    if get_origin(part) is not Sequence or not get_args(part):
        return False
    inner = alternatives(get_args(part)[0])
    return str in inner or any(get_origin(kind) is Literal for kind in inner)


def _window_value(window: Window) -> list[float | str]:
    return [window.start, window.stop] if window.unit == "progress" else [window.start, window.stop, window.unit]


def _window_text(value: Any) -> str:
    window = as_window(value)
    return f"{window.start:g}-{window.stop:g}{'' if window.unit == 'progress' else 'sigma'}"


def _window_of(text: str) -> list[float | str]:
    from negguide.experiment.tasks import parse_negatives

    try:
        return _window_value(parse_negatives(f"x@{text.strip()}")[0].window)
    except ValueError as error:
        raise ValueError(
            f"the window {text!r} cannot be read; write 0-0.4 (fractions of sampling) or 14.6-1sigma"
        ) from error
