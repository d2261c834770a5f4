"""Negative weights written inside a prompt: `a portrait (glasses:-1.2), photo`."""

from __future__ import annotations

import re

from negguide.methods.negative import Negative
from negguide.methods.prompt import window_at

_OPEN = re.compile(r"(?<!\\)\(([^()]*?):\s*-(?=\s*[\d.])([^()]*)\)")
_NUMBER = re.compile(r"\s*(\d+\.?\d*|\.\d+)\s*(@.*)?", re.DOTALL)


def parse_weights(text: str) -> tuple[str, tuple[Negative, ...]]:
    r"""Take `(text:-weight)` out of a prompt: the prompt without them, and a `Negative` of that weight for each.

    The spelling of NegPiP and of the web UIs; `(text:-weight@start-stop)` adds a window, as after `--no`. Meant for
    `VSF(negatives, scale=1)` ("negative_weight"), and good for every method that takes negatives. Only negative weights
    are read: `(text:1.2)`, other parentheses and `\(` stay as they are, since stock pipelines take them literally. Spaces
    and commas around what was taken out are tidied; a prompt without negative weights comes back as it is.

    >>> prompt, (glasses,) = parse_weights("a portrait (glasses:-1.2), photo")
    >>> prompt, glasses.weight
    ('a portrait, photo', 1.2)

    Raises `ValueError` that says what is wrong at which character (counted from 1).
    """
    negatives = tuple(_negative(text, match) for match in _OPEN.finditer(text))
    if not negatives:
        return text, ()
    rest = re.sub(r"\s+", " ", _OPEN.sub(" ", text))
    rest = re.sub(r"(?:\s*,)+", ",", re.sub(r"\s+([.;!?])", r"\1", rest))
    return rest.strip(" ,"), negatives


def _negative(text: str, match: re.Match[str]) -> Negative:
    name, number = match[1].strip(), _NUMBER.fullmatch(match[2])
    if not name:
        raise ValueError(f"at character {match.start() + 1} of {text!r}: a weight without text; write (hat:-1.2)")
    if number is None:
        raise ValueError(
            f"at character {match.start(2) + 1} of {text!r}: {match[2].strip()!r} is not a weight; "
            "write (hat:-1.2), or (hat:-1.2@0-0.4) with a window"
        )
    if number[2] is None:
        return Negative(name, float(number[1]))
    return Negative(name, float(number[1]), window_at(text, match.start(2) + number.start(2), match.end(2)))
