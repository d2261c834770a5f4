"""Catch NaN and infinity at the step and the method where they arise, without a host sync per step on accelerators."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class FiniteGuard:
    """Checks at once on the CPU; elsewhere (`deferred`) collects flags that `finish` reads in one transfer."""

    def __init__(self, deferred: bool | None = None) -> None:
        self._deferred = deferred
        self._flags: list[Tensor] = []
        self._where: list[tuple[str, int]] = []

    def check(self, result: Tensor, inputs: Sequence[Tensor], name: str, index: int) -> None:
        """Blame `name` if `result` is not finite although every one of `inputs` is."""
        deferred = result.device.type != "cpu" if self._deferred is None else self._deferred
        good = torch.isfinite(result).all()
        if not deferred and bool(good):
            return
        for tensor in inputs:
            good = good | ~torch.isfinite(tensor).all()
        if not deferred:
            if not bool(good):
                raise _error(name, index)
            return
        self._flags.append(good)
        self._where.append((name, index))

    def finish(self) -> None:
        """Raise for the first flag that fell."""
        if not self._flags:
            return
        for good, (name, index) in zip(torch.stack(self._flags).tolist(), self._where, strict=True):
            if not good:
                raise _error(name, index)


def _error(name: str, index: int) -> FloatingPointError:
    return FloatingPointError(
        f"{name} made NaN or infinity out of finite predictions at step {index}; "
        "check its weights and scales, and use bfloat16 or float32 where float16 overflows"
    )
