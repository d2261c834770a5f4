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
        self._checks: list[tuple[Tensor, list[Tensor], str, int]] = []
        """The largest number of a result and those of its inputs, whom to blame where only the first is not finite, when."""

    def check(self, result: Tensor, inputs: Sequence[Tensor], name: str, index: int) -> None:
        """Blame `name` if `result` is not finite although every one of `inputs` is."""
        if self._waits(result):
            # One kernel for each tensor: inside attention this is asked at every layer.
            self._checks.append((_largest(result), [_largest(tensor) for tensor in inputs], name, index))
            return
        # On the CPU one sum in float32 clears most tensors; where it overflows, each number is looked at.
        if result.sum(dtype=torch.float32).isfinite() or bool(torch.isfinite(result).all()):
            return
        if all(bool(torch.isfinite(tensor).all()) for tensor in inputs):
            raise _error(name, index)

    def require(self, good: Tensor, error: Exception) -> None:
        """Raise `error` if `good` (one truth value) is false: at once, or in `finish`."""
        if self._waits(good):
            self._flags.append(good)
            self._errors.append(error)
        elif not bool(good):
            raise error

    def finish(self) -> None:
        """Raise for the first flag that fell."""
        self._finish_checks()
        if not self._flags:
            return
        for good, error in zip(torch.stack(self._flags).tolist(), self._errors, strict=True):
            if not good:
                raise error

    def _finish_checks(self) -> None:
        alike: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for result, inputs, *_ in self._checks:
            for number in (result, *inputs):
                alike.setdefault((number.dtype, number.device), []).append(number)
        finite: dict[int, bool] = {}
        for numbers in alike.values():
            finite |= zip(map(id, numbers), torch.stack(numbers).isfinite().tolist(), strict=True)
        for result, inputs, name, index in self._checks:
            if not finite[id(result)] and all(finite[id(number)] for number in inputs):
                raise _error(name, index)

    def _waits(self, tensor: Tensor) -> bool:
        return tensor.device.type != "cpu" if self._deferred is None else self._deferred


def _largest(tensor: Tensor) -> Tensor:
    """Its largest absolute number; NaN where one is."""
    return torch.linalg.vector_norm(tensor, torch.inf)


def _error(name: str, index: int) -> FloatingPointError:
    return FloatingPointError(
        f"{name} made NaN or infinity out of finite predictions at step {index}; "
        "check its weights and scales, and use bfloat16 or float32 where float16 overflows"
    )
