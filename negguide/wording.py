"""How messages say things: the nearest known name, and the first line of another library's error."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, possible: Iterable[str], otherwise: str = "") -> str:
    """The end of "unknown name ...".

    Args:
        name: what was written.
        possible: what could have been meant.
        otherwise: what to end with where nothing is near.

    Returns:
        `"; did you mean 'nearest'?"`, or `otherwise`.
    """
    close = get_close_matches(name, list(possible), n=1)
    return f"; did you mean {close[0]!r}?" if close else otherwise


def first_line(error: BaseException) -> str:
    """The first line of an error's message that holds anything, or else the name of its class."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def in_one_line(error: BaseException) -> str:
    """An error's class and its whole message, with all white space as single spaces."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
