"""Which rows of a forward have the prompt, and negatives with a row for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor

Rows = Literal["second half", "first half", "all"]
"""Which rows of a forward have the prompt: most UNet loops stack [unconditional, prompt]."""


def check_rows(rows: Rows) -> Rows:
    """`rows` itself; `ValueError` for what it cannot be."""
    if rows not in get_args(Rows):
        raise ValueError(f"rows is {rows!r}; possible: 'second half', 'first half', 'all'")
    return rows


def guided_rows(rows: Rows, count: int) -> slice:
    """The rows with the prompt among `count` of a forward."""
    if rows == "all":
        return slice(0, count)
    if count % 2:
        raise ValueError(
            f"rows={rows!r}, and a forward has {count} rows, which have no half; if the prompt has a forward of "
            "its own, give rows='all' and pause the other forward (negguide.processors.paused)"
        )
    return slice(count // 2, count) if rows == "second half" else slice(0, count // 2)


def texts_of(negatives: Sequence[Tensor]) -> list[Tensor]:
    """Negatives as a list of embeddings (., L, C); `ValueError` for none or other shapes."""
    texts = list(negatives) if isinstance(negatives, (list, tuple)) else []
    if not texts or not all(isinstance(text, Tensor) and text.ndim == 3 for text in texts):
        raise ValueError("negatives are text embeddings; give a list of at least one, (1, L, C) each")
    return texts


def for_rows(value: Tensor, count: int) -> Tensor:
    """A negative's value with a row for each guided one."""
    if value.shape[0] not in (1, count):
        raise ValueError(f"a negative has {value.shape[0]} rows where {count} are guided; give 1 or {count}")
    return value.expand(count, *value.shape[1:])
