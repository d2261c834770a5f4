"""Noise that a scheduler draws in its steps: from the call's generator, or from the random state of the whole process.

Ancestral and stochastic schedulers draw in every step. Some pipelines do not hand the call's generator on to them, and
DPM-Solver++ SDE takes none: the same seed then gives another picture each time.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from negguide.pipeline.intercept import base_class


class Draws:
    """Watches the steps of one run. `seeded`: what would come from the process's state comes from the call's generator."""

    def __init__(self, scheduler: Any, arguments: Mapping[str, Any], seeded: bool) -> None:
        self._scheduler = scheduler
        self._generator = arguments.get("generator")
        self._seeded = seeded and self._generator is not None
        cls: Any = base_class(scheduler)
        self._names = inspect.signature(cls.step).parameters
        self.are_global = False
        """Whether the process's random state was drawn from so far."""

    @contextmanager
    def watched(self) -> Iterator[None]:
        """For the length of the run: a tree of noise grows from the seeds of the call's generators."""
        own = getattr(self._scheduler, "noise_sampler_seed", 0)
        if not self._seeded or own is not None:
            yield
            return
        several = isinstance(self._generator, (list, tuple))
        self._scheduler.noise_sampler_seed = (
            [generator.initial_seed() for generator in self._generator] if several else self._generator.initial_seed()  # type: ignore[union-attr]
        )
        try:
            yield
        finally:
            self._scheduler.noise_sampler_seed = own

    def step(self, original: Callable[..., object], *args: object, **kwargs: object) -> Any:
        """The scheduler's step."""
        if self._seeded and "generator" in self._names:
            at = list(self._names).index("generator") - 1
            if len(args) <= at and kwargs.get("generator") is None:
                kwargs["generator"] = self._generator
        before = None if self.are_global else _state(args, kwargs)
        result = original(*args, **kwargs)
        if before is not None:
            self.are_global = any(not torch.equal(a, b) for a, b in zip(before, _state(args, kwargs), strict=True))
        return result


def _state(args: tuple[object, ...], kwargs: Mapping[str, object]) -> list[torch.Tensor]:
    """The process's random state, of the CPU and of the device of what is sampled; both lie on the host."""
    sampled = next((value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)), None)
    states = [torch.get_rng_state()]
    if sampled is not None and sampled.device.type == "cuda":
        states.append(torch.cuda.get_rng_state(sampled.device))
    return states
