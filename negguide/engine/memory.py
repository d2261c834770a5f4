"""How many rows a forward has, and what happens where memory runs out in one."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from negguide.pipeline.plan import Plan

K = TypeVar("K")


FOR_ONE_IMAGE = 4
"""Rows of a forward for one image on an accelerator, which at that size waits for the processor rather than for its memory."""


def most_rows(plan: Plan) -> int:
    """As many as the pipeline's own call has, so that nothing asks for more memory than it alone would.

    A guided call for one image on an accelerator, whose two rows leave most of that idle, may have `FOR_ONE_IMAGE`; not where its
    weights are elsewhere between two calls, to save memory.
    """
    if plan.mode != "batch":
        return plan.rows
    return FOR_ONE_IMAGE if plan.rows == 1 and _on_accelerator(plan.denoisers.values()) else 2 * plan.rows


def _on_accelerator(modules: Iterable[torch.nn.Module]) -> bool:
    places = {parameter.device.type for module in modules for parameter in module.parameters()}
    return bool(places) and not places & {"cpu", "meta"}


class RowLimit:
    """The most rows of a forward; halved where memory runs out, for the rest of the run.

    Args:
        rows: rows of one condition, B.
        most: the limit, from 1; None: none.
    """

    def __init__(self, rows: int, most: int | None) -> None:
        self.rows = rows
        self.most = most

    @property
    def images(self) -> int | None:
        """Of how many images a condition is asked at a time where it does not go in one piece; None: of all."""
        return None if self.most is None or self.most >= self.rows else self.most

    def parts(self, keys: Sequence[K]) -> list[list[K]]:
        """The conditions that go together, in order: as many as the limit allows, at least one."""
        size = len(keys) if self.most is None else max(1, self.most // self.rows)
        return [list(keys[start : start + size]) for start in range(0, len(keys), max(1, size))]

    def halve(self, tried: int) -> bool:
        """After a forward of `tried` rows had no room: whether there is a smaller one, which then holds from now on."""
        if tried <= self.rows:
            return False
        self.most = max(self.rows, tried // 2 // self.rows * self.rows)
        warnings.warn(
            f"memory ran out in a forward of {tried} rows; this call goes on with at most {self.most} at a time. "
            f"attach(..., max_batch={self.most}) begins like that",
            stacklevel=3,
        )
        free()
        return True


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on any device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY)


_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "memoryerror")
"""The last is how a watcher's `MemoryError` is told of."""


def free() -> None:
    """Give back what nobody holds any more. Call it outside the handler: the error's frames hold what filled the memory."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
