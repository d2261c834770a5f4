"""Calls of one attached pipeline take turns: a pipeline and its scheduler keep the state of one call at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from negguide.pipeline.intercept import Run

TAKEN = (
    "another call is at work on what this one needs: {} keeps the state of one call at a time. Let that call end first (put "
    "a lock around the calls of a server), or give this one a pipeline of its own on the same weights: "
    "type(pipe)(**{{**pipe.components, 'scheduler': copy.deepcopy(pipe.scheduler)}})"
)


class Turns:
    """Whose turn it is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._run: Run | None = None

    @property
    def is_here(self) -> bool:
        """Whether a call runs in this thread."""
        run = self._run
        return run is not None and run.is_here

    @contextmanager
    def take(self, pipe: object) -> Iterator[Run]:
        """One call. Raises `RuntimeError` while another one runs, in whatever thread."""
        run = Run(pipe)
        with self._lock:
            if self._run is not None and (self._run.is_here or self._run.is_elsewhere):
                raise RuntimeError(TAKEN.format("a pipeline"))
            self._run = run
        try:
            yield run
        finally:
            self._run = None
