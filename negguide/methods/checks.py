"""Texts that can be written and numbers that are finite: checks that many configs share."""

from __future__ import annotations

import math


def encodable(what: str, text: str) -> str:
    """The text as it is; `ValueError` if it cannot be written as UTF-8, so that no tokenizer and no file could take it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{what} {text!r} holds half a character, {text[error.start]!r} at place {error.start + 1} (bytes that are no "
            "UTF-8, or one of two surrogates); write it in UTF-8"
        ) from error
    return text


def finite(what: str, value: object, low: float = -math.inf, high: float = math.inf) -> float:
    """`value` as a float; `TypeError` for what is no number, `ValueError` when not finite or outside [low, high]."""
    if isinstance(value, bool | str) or not hasattr(value, "__float__"):
        raise TypeError(f"{what} is {value!r}; a number is needed")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{what} is {number}; a finite number is needed")
    if not low <= number <= high:
        bounds = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise ValueError(f"{what} is {number:g}; possible: {bounds}")
    return number
