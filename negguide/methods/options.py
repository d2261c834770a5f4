"""What a method's option means, said once, in its field: help, range, unit and choices.

From this come the checks of a config, the help of `negguide methods NAME`, the controls of the demo, and the `Args` of the
docstring.
"""

from __future__ import annotations

import dataclasses
import math
import textwrap
import types
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_KEY = "negguide"
_INFINITY = math.inf


@dataclasses.dataclass(frozen=True)
class Option:
    """The meaning of one option.

    Args:
        help: one or two plain sentences.
        low: the least number, itself possible unless `above`.
        high: the greatest number, itself possible unless `below`.
        above: whether only numbers greater than `low` are possible.
        below: whether only numbers less than `high` are possible.
        unit: of the number, e.g. "pixels"; empty for a bare number.
        choices: texts that are possible or offered, where the type does not name them.
        local: whether it names a file of this machine, which no page lets a stranger do.
    """

    help: str = ""
    low: float = -_INFINITY
    high: float = _INFINITY
    above: bool = False
    below: bool = False
    unit: str = ""
    choices: tuple[str, ...] = ()
    local: bool = False

    def holds(self, number: float) -> bool:
        """Whether a finite number is in the range."""
        return (self.low < number if self.above else self.low <= number) and (
            number < self.high if self.below else number <= self.high
        )

    @property
    def range(self) -> str:
        """The range in words: "from 0 to 1", "more than 0, at most 1", "at least 1 pixels"; empty where all is possible."""
        least = "" if self.low == -_INFINITY else f"{'more than' if self.above else 'at least'} {self.low:g}"
        most = "" if self.high == _INFINITY else f"{'less than' if self.below else 'at most'} {self.high:g}"
        if least and most and not self.above and not self.below:
            words = f"from {self.low:g} to {self.high:g}"
        else:
            words = ", ".join(part for part in (least, most) if part)
        return f"{words} {self.unit}" if words and self.unit else words


def option(
    default: object = dataclasses.MISSING,
    *,
    help: str,
    low: float = -_INFINITY,
    high: float = _INFINITY,
    above: bool = False,
    below: bool = False,
    unit: str = "",
    choices: Sequence[str] = (),
    local: bool = False,
    default_factory: Callable[[], Any] | None = None,
) -> Any:
    """A dataclass field that says what it means; arguments as of `Option`, and a default or a factory of it.

    >>> option(0.7, help="How much of it.", low=0, high=1).default
    0.7
    """
    meaning = Option(help, low, high, above, below, unit, tuple(choices), local)
    if default_factory is not None:
        return dataclasses.field(default_factory=default_factory, metadata={_KEY: meaning})
    return dataclasses.field(default=default, metadata={_KEY: meaning})


def option_of(field: dataclasses.Field[Any]) -> Option:
    """The meaning of a field; an `Option` that says nothing for a field without one."""
    meaning = field.metadata.get(_KEY)
    return meaning if isinstance(meaning, Option) else Option()


def options_of(config: type) -> Mapping[str, Option]:
    """Field name -> meaning, in the order of the fields of a dataclass."""
    return {field.name: option_of(field) for field in dataclasses.fields(config)}


def alternatives(hint: object) -> tuple[Any, ...]:
    """The alternatives of a type, those of nested unions too."""
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(part for inner in get_args(hint) for part in alternatives(inner))
    return (hint,)


def types_of(config: object) -> Mapping[str, tuple[Any, ...]]:
    """Field name -> alternatives of its type, of a dataclass."""
    return _types_of(config)


@lru_cache(maxsize=128)
def _types_of(config: Any) -> Mapping[str, tuple[Any, ...]]:
    hints = get_type_hints(config)
    return {field.name: alternatives(hints[field.name]) for field in dataclasses.fields(config)}


def possible_texts(meaning: Option, parts: Sequence[object]) -> tuple[str, ...]:
    """The texts that an option may be: its own choices, else those its type names; () where they are open."""
    return meaning.choices or literals(parts)


def literals(parts: Sequence[object]) -> tuple[str, ...]:
    """The texts that a type names, where it names nothing but texts; else ()."""
    named = [text for part in parts for text in get_args(part) if get_origin(part) is Literal]
    return tuple(dict.fromkeys(named)) if all(isinstance(text, str) for text in named) else ()


def check_options(config: object) -> None:
    """See that the numbers, flags and named texts of a config are what its fields say, and make floats of what are floats.

    Call it in `__post_init__`. What depends on several options, and what is no number, a method checks itself.

    Raises:
        TypeError: a number or a flag is something else.
        ValueError: a number is not finite or out of its range, or a text is none of those that the type names.
    """
    parts = types_of(type(config))
    for name, meaning in options_of(type(config)).items():
        value = getattr(config, name)
        if value is None and type(None) in parts[name]:
            continue
        if float in parts[name]:
            object.__setattr__(config, name, _number(name, value, meaning))
        elif int in parts[name] and (len(set(parts[name]) - {type(None)}) == 1 or isinstance(value, int)):
            if isinstance(value, bool) or not isinstance(value, int):
                if meaning.range and isinstance(value, float):
                    raise ValueError(f"{name} is {value!r}; possible: a whole number, {meaning.range}")
                raise TypeError(f"{name} is {value!r}; an integer is needed")
            if not meaning.holds(value):
                raise ValueError(f"{name} is {value}; possible: {meaning.range}")
        elif set(parts[name]) - {type(None)} == {bool} and not isinstance(value, bool):
            raise TypeError(f"{name} is {value!r}; possible: True or False")
        elif (texts := literals(parts[name])) and not (isinstance(value, str) and value in texts):
            raise ValueError(f"{name} is {value!r}; possible: {', '.join(map(repr, texts))}")


def _number(name: str, value: object, meaning: Option) -> float:
    if isinstance(value, bool | str) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} is {value!r}; a number is needed")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{name} is {number}; a finite number is needed")
    if not meaning.holds(number):
        raise ValueError(f"{name} is {number:g}; possible: {meaning.range}")
    return number


def args_text(config: type) -> str:
    """The `Args` of a docstring, from the fields; empty where no field says anything."""
    if not any(meaning.help for meaning in options_of(config).values()):
        return ""
    lines = []
    parts = types_of(config)
    for field in dataclasses.fields(config):
        meaning = option_of(field)
        if not meaning.help:
            continue
        texts = possible_texts(meaning, parts[field.name])
        more = [f"Possible: {', '.join(map(repr, texts))}." if texts else ""]
        more += [f"{meaning.range[:1].upper()}{meaning.range[1:]}." if meaning.range else ""]
        more += [f"Default: {default_text(field)}." if has_default(field) else ""]
        text = " ".join([meaning.help, *(part for part in more if part)])
        lines += textwrap.wrap(f"{field.name}: {text}", 116, initial_indent="    ", subsequent_indent="        ")
    return "\n".join(["Args:", *lines])


def has_default(field: dataclasses.Field[Any]) -> bool:
    """Whether an option may be left out."""
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def default_of(field: dataclasses.Field[Any]) -> Any:
    """The value of an option that is left out; None for one that must be given."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


def default_text(field: dataclasses.Field[Any]) -> str:
    """The default as it would be typed in Python."""
    return repr(default_of(field))
