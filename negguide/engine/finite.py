"""Catch what goes wrong at the step where it arises (NaN, infinity), without a host sync per step on accelerators."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class FiniteGuard:
    """Checks at once on the CPU; elsewhere (`deferred`) collects flags that `finish` reads in one transfer."""

    def __init__(self, deferred: bool | None = None) -> None:
        self._deferred = deferred
        self._flags: list[Tensor] = []
        self._errors: list[Exception] = []

    def check(self, result: Tensor, inputs: Sequence[Tensor], name: str, index: int) -> None:
        """Blame `name` if `result` is not finite although every one of `inputs` is."""
        waits = self._waits(result)
        # On the CPU one sum in float32 clears most tensors; where it overflows, each number is looked at.
        if not waits and result.sum(dtype=torch.float32).isfinite():
            return
        good = torch.isfinite(result).all()
        if not waits and bool(good):
            return
        for tensor in inputs:
            good = good | ~torch.isfinite(tensor).all()
        self.require(good, _error(name, index))

    def require(self, good: Tensor, error: Exception) -> None:
        """Raise `error` if `good` (one truth value) is false: at once, or in `finish`."""
        if self._waits(good):
            self._flags.append(good)
            self._errors.append(error)
        elif not bool(good):
            raise error

    def finish(self) -> None:
        """Raise for the first flag that fell."""
        if not self._flags:
            return
        for good, error in zip(torch.stack(self._flags).tolist(), self._errors, strict=True):
            if not good:
                raise error

    def _waits(self, tensor: Tensor) -> bool:
        return tensor.device.type != "cpu" if self._deferred is None else self._deferred


def _error(name: str, index: int) -> FloatingPointError:
    return FloatingPointError(
        f"{name} made NaN or infinity out of finite predictions at step {index}; "
        "check its weights and scales, and use bfloat16 or float32 where float16 overflows"
    )
