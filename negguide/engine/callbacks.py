"""Callbacks that a user gives to a call: what they call is theirs, and is not taken for the run's."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback

from negguide.pipeline.intercept import Run


class _Official(MultiPipelineCallbacks):
    """An official callback, which pipelines ask for the tensors that it needs."""

    def __init__(self, callback: PipelineCallback | MultiPipelineCallbacks, run: Run) -> None:
        super().__init__([])
        self.callbacks: list[PipelineCallback | MultiPipelineCallbacks] = [callback]  # type: ignore[assignment]  # of either kind
        self._run = run

    def __call__(self, *args: object, **kwargs: object) -> Any:
        with self._run.away():
            return self.callbacks[0](*args, **kwargs)


def apart(arguments: Mapping[str, object], run: Run) -> dict[str, object]:
    """The arguments of a call with callbacks during which the run is away."""
    return {
        name: _apart(value, run) if name.startswith("callback") and callable(value) else value
        for name, value in arguments.items()
    }


def _apart(callback: Callable[..., object], run: Run) -> Callable[..., object]:
    if isinstance(callback, (PipelineCallback, MultiPipelineCallbacks)):
        return _Official(callback, run)

    @functools.wraps(callback)
    def called(*args: object, **kwargs: object) -> object:
        with run.away():
            return callback(*args, **kwargs)

    return called
