"""Intercept methods of one object by giving it a cached subclass of its own class; nothing is patched.

The subclass bears the name and module of the class it stands for, so `save_pretrained`, `isinstance` and reprs see what
they always saw. It is made once per class: `torch.compile` guards on the class find it again at the next attach.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

SLOT = "_negguide_handlers"
"""Key in an intercepted object's `__dict__`: method name -> handler(original, *args, **kwargs)."""

# `OptimizedModule` (torch.compile) overrides `__setattr__` and may hide `__class__`: go to the C-level descriptor.
_set_class = object.__dict__["__class__"].__set__


def _forwarding(cls: type, name: str) -> Callable[..., Any]:
    original = getattr(cls, name)

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        handler = self.__dict__.get(SLOT, {}).get(name)
        if handler is None:
            return original(self, *args, **kwargs)
        return handler(functools.partial(original, self), *args, **kwargs)

    return method


@functools.cache
def _subclass(cls: type, names: tuple[str, ...]) -> type:
    body: dict[str, Any] = {name: _forwarding(cls, name) for name in names}
    body |= {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    body["_negguide_base"] = cls
    return type(cls)(cls.__name__, (cls,), body)


def base_class(obj: Any) -> type:
    """The object's own class, whether it is intercepted now or not."""
    return getattr(type(obj), "_negguide_base", type(obj))


def is_intercepted(obj: Any) -> bool:
    """Whether calls of this object are routed through handlers now."""
    return SLOT in obj.__dict__


def enter(obj: Any, handlers: Mapping[str, Callable[..., Any]]) -> Callable[[], None]:
    """Route methods of `obj` through handlers; returns the function that undoes exactly this.

    Entering an object that is entered already stacks: the newest handlers answer, the older ones come back on undo.
    """
    cls, before = type(obj), obj.__dict__.get(SLOT)
    obj.__dict__[SLOT] = dict(handlers)
    _set_class(obj, _subclass(base_class(obj), tuple(sorted(handlers))))

    def undo() -> None:
        _set_class(obj, cls)
        if before is None:
            obj.__dict__.pop(SLOT, None)
        else:
            obj.__dict__[SLOT] = before

    return undo


@contextmanager
def entered(obj: Any, handlers: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """`enter` for the length of a block, undone also after an exception."""
    undo = enter(obj, handlers)
    try:
        yield
    finally:
        undo()


def plain_copy(obj: Any, copier: Callable[[Any], Any]) -> Any:
    """A copy of an object that is not intercepted, whatever `obj` is."""
    handlers = obj.__dict__.pop(SLOT, None)
    try:
        twin = copier(obj)
    finally:
        if handlers is not None:
            obj.__dict__[SLOT] = handlers
    _set_class(twin, base_class(obj))
    return twin
