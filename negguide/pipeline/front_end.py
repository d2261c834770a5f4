"""The front end of one call (all that a pipeline does before its first denoiser call): its encoders are asked once.

Probes repeat the front end of the call; what its text, image and VAE encoders said to one of them is remembered for the
others and for the run, so that a call encodes each text and each picture once, however many conditions there are.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar

import torch

from negguide.pipeline import answers
from negguide.pipeline.families import SIDE_MODELS
from negguide.pipeline.intercept import Run, enter

_LARGE = 32 * 2**20
"""Bytes of a question and its answer that are not kept beyond the front end (frames of a video)."""

_current: ContextVar[FrontEnd | None] = ContextVar("negguide_front_end", default=None)


class FrontEnd:
    """What is remembered for the length of one call of a pipeline.

    `positional`: names of the arguments that the user gave by position, for classes that take them as `*args`.
    """

    def __init__(self, pipe: object, denoisers: Mapping[str, torch.nn.Module], positional: Sequence[str] = ()) -> None:
        self.pipe = pipe
        self.positional = tuple(positional)
        others = {id(part) for part in denoisers.values()}
        parts = [(name, part) for name, part in vars(pipe).items() if isinstance(part, torch.nn.Module)]
        self._encoders = [part for name, part in parts if id(part) not in others and name not in SIDE_MODELS]
        self._known: dict[tuple[int, str], list[answers.Answer]] = {}

    @staticmethod
    def of(pipe: object) -> FrontEnd | None:
        """That of the call of this very pipeline which is going on here."""
        front_end = _current.get()
        return front_end if front_end is not None and front_end.pipe is pipe else None

    @contextmanager
    def kept(self) -> Iterator[FrontEnd]:
        """For the length of the call, what probes learn is remembered."""
        token = _current.set(self)
        try:
            yield self
        finally:
            _current.reset(token)
            self._known.clear()

    @contextmanager
    def remembering(self, run: Run, by_rows: bool) -> Iterator[Callable[[], None]]:
        """Encoders are asked by a run through the memory; yields what ends that early, when the front end is over.

        What is large is forgotten then.
        `by_rows`: an answer may be put together from rows of others. Without, only the very same question is answered
        from memory, and so to the last bit as the pipeline would hear it.
        """
        with ExitStack() as stack:
            for part in self._encoders:
                for name in ("__call__", "encode"):
                    if hasattr(part, name):
                        stack.callback(_routed(part, name, self._handler(part, name, by_rows), run))
            ended: list[bool] = []

            def end() -> None:
                if not ended:
                    ended.append(True)
                    stack.close()
                    self._forget_large()

            yield end

    def by_position(self, arguments: dict[str, object]) -> list[object]:
        """Takes out of `arguments` what goes by position: those that the user gave so, as far as none is missing."""
        names = itertools.takewhile(lambda name: name in arguments, self.positional)
        return [arguments.pop(name) for name in names]

    def _forget_large(self) -> None:
        for key, remembered in self._known.items():
            self._known[key] = [answer for answer in remembered if answer.size <= _LARGE]

    def _handler(self, part: torch.nn.Module, name: str, by_rows: bool) -> Callable[..., object]:
        def handler(original: Callable[..., object], *args: object, **kwargs: object) -> object:
            if not answers.comparable((args, kwargs)):
                return original(*args, **kwargs)
            remembered = self._known.setdefault((id(part), name), [])
            return answers.answer(remembered, original, args, kwargs, by_rows)

        return handler


def _routed(part: torch.nn.Module, name: str, handler: Callable[..., object], run: Run) -> Callable[[], None]:
    """Route a method through a handler, also one that somebody has put on the object itself; returns what undoes it."""
    if name == "__call__" or name not in part.__dict__:
        return enter(part, {name: handler}, run)
    own, state = part.__dict__[name], {"on": True}

    def routed(*args: object, **kwargs: object) -> object:
        if not state["on"] or not run.asks():
            return own(*args, **kwargs)
        with run.away():
            return handler(own, *args, **kwargs)

    part.__dict__[name] = routed

    def undo() -> None:
        state["on"] = False
        if part.__dict__.get(name) is routed:
            part.__dict__[name] = own

    return undo
