"""Methods by name: for the command line, for JSON, and for lists."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from negguide import formats
from negguide.deprecation import deprecated
from negguide.methods.avoid import Avoid
from negguide.methods.bank import Bank
from negguide.methods.base import Method, Window
from negguide.methods.mask import Mask
from negguide.methods.negative import Concept
from negguide.methods.options import args_text
from negguide.methods.reference import Reference
from negguide.methods.step import Embedded
from negguide.watchers.protocol import Question
from negguide.watchers.registry import WatcherConfig
from negguide.wording import did_you_mean

M = TypeVar("M", bound=type[Method])


@dataclasses.dataclass(frozen=True)
class Entry:
    """A method under a name: its class, and the options that the name presets. Call it with the other options."""

    name: str
    method: type[Method]
    presets: Mapping[str, object]
    summary: str
    cost: str
    paper: str

    @property
    def takes_negatives(self) -> bool:
        """Whether its first argument is negatives, so that it can be built from texts alone."""
        return any(field.name == "negatives" for field in dataclasses.fields(self.method))

    def __call__(self, *args: object, **options: object) -> Method:
        """Build the method; options override the presets."""
        return self.method(*args, **{**self.presets, **options})


METHODS: dict[str, Entry] = {}
"""Every known method by name, in the order they were registered."""


def register(method: M) -> M:
    """Class decorator: make a method known under its `name`, and end its docstring with what its options mean.

    Raises `ValueError` if the name is empty or taken by another class.
    """
    if method.__doc__ and "Args:" not in method.__doc__ and (args := args_text(method)):
        method.__doc__ = f"{inspect.cleandoc(method.__doc__)}\n\n{args}\n"
    _add(Entry(method.name, method, {}, method.summary, method.cost, method.paper))
    return method


def register_preset(name: str, method: type[Method], summary: str, cost: str, paper: str, **presets: object) -> None:
    """Make a second name known for a method with some options set; it is saved under the method's own name."""
    _add(Entry(name, method, presets, summary, cost, paper))


def get_method(name: str) -> Entry:
    """The method of that name; `ValueError` names the known ones and the closest."""
    if name in METHODS:
        return METHODS[name]
    raise ValueError(f"no method is called {name!r}{did_you_mean(str(name), METHODS, '.')} Known: {', '.join(METHODS)}")


def to_dict(method: Method) -> dict[str, object]:
    """A method as JSON types: `{"method": name, option: value, ...}`. `from_dict` gives an equal method back."""
    entry = METHODS.get(method.name)
    if entry is None or entry.method is not type(method):
        raise ValueError(f"{type(method).__name__} is not registered; decorate it with negguide.methods.register")
    options = {field.name: _encode(getattr(method, field.name)) for field in dataclasses.fields(method)}
    return {"method": method.name, **options}


def from_dict(data: Mapping[str, Any]) -> Method:
    """A method from its JSON form.

    Unknown names and options are a `ValueError` with what is known; of a form that has the number of its format, as `to_json`
    writes it, unknown options are left out with a warning, since a newer version may have written them.
    """
    if not isinstance(data, Mapping) or "method" not in data:
        raise ValueError(f"a method's JSON form is an object with the key 'method', not {data!r}")
    entry = get_method(data["method"])
    fields = [field.name for field in dataclasses.fields(entry.method)]
    data = _renamed(data, entry)
    if formats.KEY in data:  # a program wrote it; what a person typed is held to the names that there are
        data = formats.opened(data, ["method", *fields], f"the JSON of {entry.name}", stacklevel=2)
    options = {key: _decode(value) for key, value in data.items() if key != "method"}
    for option in options:
        if option not in fields:
            raise ValueError(
                f"{entry.name} has no option {option!r}{did_you_mean(option, fields, '.')} Known: {', '.join(fields)}"
            )
    return entry(**options)


def to_json(method: Method, indent: int | None = None) -> str:
    """`to_dict` as JSON text, with the number of its format."""
    return json.dumps(formats.stamped(to_dict(method)), indent=indent, ensure_ascii=False, allow_nan=False)


def from_json(text: str) -> Method:
    """`from_dict` of JSON text."""
    return from_dict(json.loads(text))


def _renamed(data: Mapping[str, object], entry: Entry) -> Mapping[str, Any]:
    """The data with the names that options have today."""
    renamed = entry.method.renamed
    for old in [key for key in data if key in renamed]:
        deprecated(f"the option {old!r} of {entry.name}", repr(renamed[old]), stacklevel=3)
    return {renamed.get(key, key): value for key, value in data.items()}


def _add(entry: Entry) -> None:
    taken = METHODS.get(entry.name)
    if not entry.name or (taken is not None and taken.method.__qualname__ != entry.method.__qualname__):
        raise ValueError(f"{entry.method.__name__} needs a name of its own; {entry.name!r} is empty or taken")
    METHODS[entry.name] = entry


def _encode(value: object) -> object:
    if isinstance(value, Mask | Reference | Avoid | Bank | WatcherConfig | Question):
        return value.to_dict()
    if isinstance(value, Window):
        return dataclasses.asdict(value)
    if isinstance(value, Concept):
        encoded = {field.name: _encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
        if value.mask is None:
            del encoded["mask"]
        if value.window == Window():
            del encoded["window"]
        if encoded.get("instead_of", "") is None:
            del encoded["instead_of"]
        return encoded
    if isinstance(value, tuple | list):
        return [_encode(item) for item in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Embedded):
        raise TypeError(f"{value!r} has no JSON form; give the negative as a text to save it")
    if callable(value):
        raise TypeError(
            f"{value!r} is a function or a model, which has no JSON form; give a watcher a name with "
            "negguide.watchers.register_watcher and use the name, a preview decoder by its hub id, a policy or kind by its name"
        )
    raise TypeError(
        f"{value!r} has no JSON form; options are texts, numbers, windows, masks, negatives, references and lists of them"
    )


def _decode(value: object) -> object:
    """JSON lists are tuples in configs; objects are understood by the configs themselves."""
    return tuple(_decode(item) for item in value) if isinstance(value, list) else value
