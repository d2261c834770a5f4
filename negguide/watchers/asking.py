"""Ask a watcher so that whatever goes wrong costs the look and not the picture; at once, or while others work."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from negguide.watchers.protocol import Answers, Question, Watcher, as_answers
from negguide.wording import first_line

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a look: answers by picture and question, or what went wrong; `seconds` as the watcher took them."""

    answers: Answers = ()
    error: str | None = None
    seconds: float = 0.0


class Look:
    """One visit of a watcher to some pictures, each with its own questions; pictures with equal ones share a call.

    Without `turn`, it is asked now, in this thread. With it, a thread begins now, which takes the lock while it asks, and
    `outcome` waits for it, at most until `timeout` seconds after the beginning. A watcher that is late cannot be stopped:
    its answer is thrown away.
    """

    def __init__(
        self,
        watcher: Watcher,
        images: Sequence[Image],
        questions: Sequence[tuple[Question, ...]],
        turn: threading.Lock | None = None,
    ) -> None:
        self._watcher, self._images, self._questions = watcher, images, questions
        self._found: Outcome | None = None
        self._final: Outcome | None = None
        self._turn = turn
        self._began = time.monotonic()
        self._thread: threading.Thread | None = None
        if turn is not None:
            self._thread = threading.Thread(target=self._work, name="negguide-watcher", daemon=True)
            self._thread.start()
        else:
            with _undisturbed():
                self._work()

    @property
    def is_running(self) -> bool:
        """Whether the watcher is still at it."""
        return self._thread is not None and self._thread.is_alive()

    def outcome(self, timeout: float | None = None) -> Outcome:
        """What came of it; waits if it must. Whoever asks again hears the same."""
        if self._final is None:
            if self._thread is not None:
                left = None if timeout is None else max(0.0, timeout - (time.monotonic() - self._began))
                self._thread.join(left)
            late = Outcome(error=f"the watcher did not answer within {timeout or 0:g} s", seconds=timeout or 0.0)
            self._final = self._found or late
        return self._final

    def _work(self) -> None:
        import torch

        begin = time.monotonic()
        try:
            with self._turn or nullcontext(), torch.no_grad():  # a thread has its own gradient mode
                answers = _asked(self._watcher, self._images, self._questions)
            self._found = Outcome(answers, seconds=time.monotonic() - begin)
        except Exception as error:
            name, line = type(error).__name__, first_line(error)
            self._found = Outcome(error=name if line == name else f"{name}: {line}", seconds=time.monotonic() - begin)


def _asked(watcher: Watcher, images: Sequence[Image], questions: Sequence[tuple[Question, ...]]) -> Answers:
    by_index: dict[int, tuple[tuple[object, ...], ...]] = {}
    for asked in dict.fromkeys(questions):
        at = [place for place, own in enumerate(questions) if own == asked]
        if asked:
            rows = as_answers(watcher([images[place] for place in at], asked), len(at), len(asked))
            by_index |= dict(zip(at, rows, strict=True))
    return tuple(by_index.get(place, ()) for place in range(len(images)))  # type: ignore[misc]


@contextmanager
def _undisturbed() -> Iterator[None]:
    """The global random state as it was: a watcher must not change what the sampler draws."""
    import torch

    devices = [torch.cuda.current_device()] if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        yield
