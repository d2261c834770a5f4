"""Everything that the noise levels of a run follow from, so that two runs can be compared."""

from __future__ import annotations

from typing import Any

import torch

from negguide.pipeline import argument_tree
from negguide.pipeline.intercept import base_class

_NAMES = ("timesteps", "sigmas", "sigmas_interpol", "alphas_cumprod", "_begin_index")


class Levels:
    """The class, the configuration and the levels of a scheduler, read when a pipeline has set its timesteps."""

    def __init__(self, scheduler: Any) -> None:
        self._kind = base_class(scheduler)
        self._values = {**scheduler.config, **{name: _copy(getattr(scheduler, name, None)) for name in _NAMES}}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Levels):
            return NotImplemented
        return self._kind is other._kind and alike(self._values, other._values)

    __hash__ = None  # type: ignore[assignment]


def alike(first: object, second: object) -> bool:
    """As `argument_tree.same`, through containers and arrays, tensors on the same device."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(alike(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return len(first) == len(second) and all(alike(a, b) for a, b in zip(first, second, strict=True))
    if not isinstance(first, torch.Tensor) and hasattr(first, "__array__"):
        return type(first) is type(second) and alike(torch.as_tensor(first), torch.as_tensor(second))
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor) and first.device != second.device:
        return False
    return argument_tree.same(first, second)


def _copy(value: object) -> object:
    return value.clone() if isinstance(value, torch.Tensor) else value
