"""Intercept methods of one object by giving it a cached subclass of its own class; nothing is patched.

The subclass bears the name and module of the class it stands for, so `save_pretrained`, `isinstance` and reprs see what
they always saw. It is made once per class: `torch.compile` guards on the class find it again at the next attach.

Several runs may intercept one object at a time (threads, pipelines with shared parts). Each adds its handlers to a pile
and takes away its own, whatever the order; a call is answered by the handlers of its own run, or else by nobody. Copies
and pickles of an intercepted object are plain.
"""

from __future__ import annotations

import copyreg
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from negguide.types import Original

SLOT = "_negguide_handlers"
"""Key in an intercepted object's `__dict__`: the tuple of those who intercept it, the newest last."""

# `OptimizedModule` (torch.compile) overrides `__setattr__` and may hide `__class__`: go to the C-level descriptor.
_set_class = object.__dict__["__class__"].__set__
_lock = threading.RLock()


class Run:
    """One call of a pipeline, in its thread: whose handlers answer. `pipe`: the very object whose `__call__` runs."""

    def __init__(self, pipe: object) -> None:
        from diffusers.pipelines.pipeline_utils import DiffusionPipeline

        self.pipe = pipe
        self._kind = DiffusionPipeline
        self._where = (os.getpid(), threading.get_ident())
        self._away = 0

    @property
    def is_here(self) -> bool:
        """Whether this is the thread of the run."""
        return self._where == (os.getpid(), threading.get_ident())

    @property
    def is_elsewhere(self) -> bool:
        """Whether the run goes on in another thread of this process (a fork takes only its own thread along)."""
        return not self.is_here and self._where[0] == os.getpid()

    @contextmanager
    def away(self) -> Iterator[None]:
        """While other people's code is at work (callbacks, watchers), nothing that it calls is taken for the run's."""
        self._away += 1
        try:
            yield
        finally:
            self._away -= 1

    def asks(self) -> bool:
        """Whether the call that is being made now comes from this run's own pipeline."""
        return self.is_here and not self._away and self._nearest() in (None, self.pipe)

    def _nearest(self) -> object:
        """The innermost pipeline whose method is running in this thread."""
        frame = sys._getframe(2)
        while frame is not None:
            code = frame.f_code
            if code.co_argcount and code.co_varnames[0] == "self":
                owner = frame.f_locals.get("self")
                if isinstance(owner, self._kind):
                    return owner
            frame = frame.f_back  # type: ignore[assignment]
        return None


class _Entry:
    """Handlers of one run; `run` None: of whoever calls. `alone`: the object serves no other run meanwhile."""

    def __init__(
        self, handlers: Mapping[str, Callable[..., object]], run: Run | None, alone: str, reserved: Sequence[str]
    ) -> None:
        self.handlers = dict(handlers)
        self.run = run
        self.alone = alone
        self.reserved = frozenset(reserved)


def _answering(obj: object, name: str) -> _Entry | None:
    """The newest entry that answers a call of a method made now. Raises `RuntimeError` where another run stands alone."""
    entries = [entry for entry in reversed(obj.__dict__.get(SLOT, ())) if name in entry.handlers]
    for entry in entries:
        if entry.run is None or entry.run.asks():
            return entry
    for entry in entries:
        if entry.alone and (entry.run.is_elsewhere or (name in entry.reserved and entry.run.is_here)):
            raise RuntimeError(entry.alone)
    return None


def _forwarding(original: Callable[..., object], name: str) -> Callable[..., object]:
    @functools.wraps(original)
    def method(self: object, *args: object, **kwargs: object) -> object:
        entry = _answering(self, name)
        if entry is None:
            return original(self, *args, **kwargs)
        handler = entry.handlers[name]
        if entry.run is None:
            return handler(functools.partial(original, self), *args, **kwargs)
        with entry.run.away():
            return handler(functools.partial(original, self), *args, **kwargs)

    inner = getattr(original, "__wrapped__", None)
    if callable(inner):
        # Undecorated (`type(pipe).__call__.__wrapped__`: with gradients) it is intercepted just so.
        method.__wrapped__ = _forwarding(inner, name)
    return method


def _plain(obj: object, base: type) -> Any:
    """An object of the class `base` with the very attributes of an intercepted one."""
    twin: object = object.__new__(base)
    attributes = dict(obj.__dict__)
    attributes.pop(SLOT, None)
    object.__getattribute__(twin, "__dict__").update(attributes)
    return twin


@functools.cache
def _like(metaclass: type) -> Any:
    """A metaclass whose classes equal the class they stand for: pipelines ask `type(self.scheduler) != SomeScheduler`."""

    def equal(cls: object, other: object) -> bool:
        return other is cls or other is cls.__dict__.get("_negguide_base", cls)

    return type(metaclass.__name__, (metaclass,), {"__eq__": equal, "__hash__": lambda c: hash(c._negguide_base)})


@functools.cache
def _subclass(cls: type, names: tuple[str, ...]) -> type:
    def reduced(self: object, protocol: object) -> object:
        result = _plain(self, cls).__reduce_ex__(protocol)
        if isinstance(result, tuple) and result[0] is getattr(copyreg, "__newobj__", None) and len(result[1]) == 1:
            # `pickle` insists that `__newobj__` makes the class of what it pickles, which is not the plain one.
            return copyreg._reconstructor, (result[1][0], object, None), *result[2:]  # type: ignore[attr-defined]
        return result

    body: dict[str, object] = {name: _forwarding(getattr(cls, name), name) for name in names}
    body |= {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    body |= {"_negguide_base": cls, "__reduce_ex__": reduced}
    for name in ("__copy__", "__deepcopy__"):
        if hasattr(cls, name):
            own = getattr(cls, name)
            body[name] = lambda self, *memo, own=own: own(_plain(self, cls), *memo)
    return _like(type(cls))(cls.__name__, (cls,), body)


def base_class(obj: object) -> type:
    """The object's own class, whether it is intercepted now or not."""
    return getattr(type(obj), "_negguide_base", type(obj))


def is_intercepted(obj: object) -> bool:
    """Whether calls of this object are routed through handlers now."""
    return SLOT in obj.__dict__


def handlers_of(obj: object, name: str) -> list[Callable[..., object]]:
    """The handlers of a method of an object, the newest last."""
    return [entry.handlers[name] for entry in obj.__dict__.get(SLOT, ()) if name in entry.handlers]


def enter(
    obj: object,
    handlers: Mapping[str, Callable[..., object]],
    run: Run | None = None,
    alone: str = "",
    reserved: Sequence[str] = (),
) -> Callable[[], None]:
    """Route methods of `obj` through `handler(original, *args, **kwargs)`; returns the function that undoes exactly this.

    `run`: only calls that this run's own pipeline makes, in its thread; while a handler works, its calls go through to
    the original. `alone`: an object that serves one run at a time: raises `RuntimeError` with this text if it serves
    another, and so does whoever calls one of these methods from another thread meanwhile; those of the methods that are
    `reserved` are refused to all but the run's own pipeline, also to what its callbacks call.
    """
    entry = _Entry(handlers, run, alone, reserved)
    with _lock:
        others = obj.__dict__.get(SLOT, ())
        if alone and any(other.alone and (other.run.is_here or other.run.is_elsewhere) for other in others):
            raise RuntimeError(alone)
        _put(obj, (*others, entry))

    def undo() -> None:
        with _lock:
            _put(obj, tuple(other for other in obj.__dict__.get(SLOT, ()) if other is not entry))

    return undo


def _put(obj: object, entries: tuple[_Entry, ...]) -> None:
    base = base_class(obj)
    if entries:
        obj.__dict__[SLOT] = entries
        _set_class(obj, _subclass(base, tuple(sorted({name for entry in entries for name in entry.handlers}))))
    else:
        _set_class(obj, base)
        obj.__dict__.pop(SLOT, None)


@contextmanager
def entered(
    obj: object,
    handlers: Mapping[str, Callable[..., object]],
    run: Run | None = None,
    alone: str = "",
    reserved: Sequence[str] = (),
) -> Iterator[None]:
    """`enter` for the length of a block, undone also after an exception."""
    undo = enter(obj, handlers, run, alone, reserved)
    try:
        yield
    finally:
        undo()


def around(around: Any, handler: Any, original: Original, *args: Any, **kwargs: Any) -> Any:
    """A handler whose original has something around it."""
    return handler(functools.partial(around, original), *args, **kwargs)


def after(first: Callable[[], None], handler: Any, *args: Any, **kwargs: Any) -> Any:
    """A handler with something to do before it."""
    first()
    return handler(*args, **kwargs)
