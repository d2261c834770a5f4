"""Watchers by name: for the command line and for JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, ClassVar, TypeVar

from negguide import plugins
from negguide.names import find_bundle
from negguide.watchers.protocol import Watcher

W = TypeVar("W", bound="type[WatcherConfig]")


@dataclasses.dataclass(frozen=True)
class WatcherConfig:
    """Base of the watchers that ship with negguide: frozen configs that load their model at the first question."""

    name: ClassVar[str] = ""

    def to_dict(self) -> dict[str, object]:
        """As JSON types: `{"watcher": name, option: value, ...}`; `as_watcher` gives an equal one back."""
        options = {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}
        return {"watcher": self.name, **options}


_CLASSES: dict[str, type[WatcherConfig]] = {}
_HOMES = {"clip": "negguide.watchers.zero_shot", "vqa": "negguide.watchers.vqa", "chat": "negguide.watchers.chat"}
_NAMED: dict[str, Watcher] = {}

POSSIBLE = (
    "possible: 'toybox' (the bundled model), 'vqa:<model>' (ViLT, BLIP), 'chat:<model>' (image-text-to-text), "
    "'clip:toybox', a name given to negguide.watchers.register_watcher, a watcher of negguide.watchers, or any function (images, "
    "questions) -> answers"
)


def register_class(cls: W) -> W:
    """Class decorator: make a watcher config known under its `name`, for `as_watcher` and JSON."""
    _CLASSES[cls.name] = cls
    return cls


def register_watcher(name: str, watcher: Watcher | Callable[..., Any]) -> None:
    """Give a watcher of your own a name, so that configs that use it can be saved. A name can be given anew.

    Raises `ValueError` for names that mean something else already, `TypeError` for what cannot be called.
    """
    if not name or ":" in name or name in _HOMES or _is_bundled(name):
        raise ValueError(f"a watcher cannot be called {name!r}; take a word of its own, without a colon")
    if not callable(watcher):
        raise TypeError(f"the watcher {name!r} is {watcher!r}; {POSSIBLE}")
    _NAMED[name] = watcher


def as_watcher(value: object) -> Watcher:
    """A watcher from its name, its JSON form, or itself. Loads no model. `ValueError` or `TypeError` names what is possible."""
    if isinstance(value, str):
        return _by_name(value)
    if isinstance(value, Mapping):
        return _from_dict(value)
    if isinstance(value, type) or not callable(value):
        hint = " (an instance is meant, not the class)" if isinstance(value, type) else ""
        raise TypeError(f"the watcher is {value!r}{hint}; {POSSIBLE}")
    watcher: Watcher = value
    return watcher


def _by_name(name: str) -> Watcher:
    plugins.load()
    if name in _NAMED:
        return _NAMED[name]
    kind, _, model = name.partition(":")
    if not model and _is_bundled(kind):
        kind, model = "vqa", kind
    if kind in _HOMES:
        watcher: Any = _class(kind)(**({"model": model} if model else {}))
        return watcher
    raise ValueError(f"no watcher is called {name!r}; {POSSIBLE}")


def _from_dict(data: Mapping[str, object]) -> Watcher:
    name = data.get("watcher")
    if name not in _HOMES and name not in _CLASSES:
        kinds = ", ".join(sorted({*_HOMES, *_CLASSES}))
        raise ValueError(f"a watcher's JSON form has the key 'watcher' with one of {kinds}, not {dict(data)!r}")
    cls = _class(str(name))
    options = {key: _frozen(value) for key, value in data.items() if key != "watcher"}
    known_options = [field.name for field in dataclasses.fields(cls)]
    if unknown := sorted(set(options) - set(known_options)):
        raise ValueError(f"watcher {name!r} has no {', '.join(unknown)}; possible: {', '.join(known_options)}")
    watcher: Any = cls(**options)
    return watcher


def _is_bundled(name: str) -> bool:
    """Whether a bundle of this name has a watcher, which its name then means."""
    bundle = find_bundle(name)
    return bundle is not None and bundle.watcher is not None


def _class(name: str) -> type[WatcherConfig]:
    if name not in _CLASSES:
        import_module(_HOMES[name])
    return _CLASSES[name]


def _plain(value: object) -> object:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _frozen(value: object) -> object:
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value
