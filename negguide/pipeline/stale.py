"""Whether a remembered plan still holds: what the pipeline asks now, and its schedule now, against what they were then.

No key can tell all that a front end depends on (weights edited through `.data`, autocast, a pipeline's own state). What
reaches the denoiser can: the same conditioning for the call's own texts comes from the same encoders in the same state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from negguide.pipeline import argument_tree
from negguide.pipeline.levels import Levels, alike
from negguide.pipeline.probe import form_of, main_input, named_arguments
from negguide.types import Original

if TYPE_CHECKING:
    from negguide.pipeline.plan import Plan


class Stale(BaseException):
    """Ends a run that began with a plan which no longer holds; no pipeline catches it."""


class Check:
    """Looks at the denoiser calls of the first step of a run. Raises `Stale` before anything was guided wrongly."""

    def __init__(self, plan: Plan, scheduler: object) -> None:
        self._plan = plan
        self._scheduler = scheduler
        self._left = 2 if plan.mode == "sequential" else 1

    def denoise(
        self, guided: Callable[..., Any], name: str, module: Any, original: Original, *args: Any, **kwargs: Any
    ) -> Any:
        """Before a denoiser call is guided."""
        if self._left:
            self._look(name, named_arguments(module, args, kwargs))
        return guided(name, module, original, *args, **kwargs)

    def step(self, done: Callable[..., object], original: object, *args: object, **kwargs: object) -> Any:
        """Before the scheduler's step: the unconditional call that is missing by now does not come."""
        if self._left:
            raise Stale
        return done(original, *args, **kwargs)

    def _look(self, name: str, named: Mapping[str, object]) -> None:
        plan, reference = self._plan, self._plan.reference
        self._left -= 1
        expected: Mapping[str, object] = reference.named
        if plan.mode == "sequential" and not self._left:
            expected = argument_tree.overlaid(reference.named, plan.own)
        elif (
            reference.denoiser != name
            or reference.form != form_of(main_input(named)[1])
            or reference.levels != Levels(self._scheduler)
        ):
            raise Stale
        paths = dict.fromkeys([*plan.text_paths, *plan.own])
        if not all(alike(argument_tree.at(expected, path), argument_tree.at(named, path)) for path in paths):
            raise Stale


class Rewind:
    """Random states as they were when a call began, for a run that begins again."""

    def __init__(self, generators: object, pipe: object) -> None:
        # Asking a pipeline for its device walks over all its modules.
        device: Any = getattr(pipe, "_execution_device", None) if torch.cuda.is_initialized() else None
        self._generators = [(generator, generator.get_state()) for generator in _generators(generators)]
        self._cpu = torch.get_rng_state()
        self._cuda = None if getattr(device, "type", "") != "cuda" else (torch.cuda.get_rng_state(device), device)

    def back(self) -> None:
        """Make all of them what they were."""
        for generator, state in self._generators:
            generator.set_state(state)
        torch.set_rng_state(self._cpu)
        if self._cuda is not None:
            torch.cuda.set_rng_state(*self._cuda)


def _generators(value: object) -> list[torch.Generator]:
    if isinstance(value, torch.Generator):
        return [value]
    if isinstance(value, (list, tuple)):
        return [generator for item in value for generator in _generators(item)]
    return []
