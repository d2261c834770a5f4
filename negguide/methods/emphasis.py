r"""Weights written into a text, as web UIs and compel write them: `(cat:1.5)`, `((cat))`, `[cat]`, `cat++`, `(a cat)1.5`.

Stock pipelines take brackets and signs literally. Here a text that is weighted as a whole is a negative of that weight; of
what is weighted in part only, the user is told. `\(`, `\)`, `\[`, `\]` and `\+` are the characters themselves.
"""

from __future__ import annotations

import itertools
import re
import warnings

UP, DOWN = 1.1, 0.9
"""What a pair of parentheses (web UIs) or a plus (compel) multiplies by, and a minus. Square brackets divide by `UP`."""

_CLOSES = {")": "(", "]": "["}
_ESCAPED = re.compile(r"\\([()\[\]+])")
_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*")
_DECIMAL_COMMA = re.compile(r"\s*\d+,\d+\s*")
_SIGNS = re.compile(r"(.*[^\s+-])(\++|-+)", re.DOTALL)
_WORD = re.compile(r"[^\s()\[\]+\\-]+")
_SIGNED_WORD = re.compile(r"[^\s()\[\]+\\-](?:\+\+|--)[+-]*(?=[\s,;.]|$)")


def read_emphasis(text: str) -> tuple[str, float]:
    r"""(text, factor) of a text that is weighted as a whole; others come back as they are, with factor 1.

    >>> read_emphasis("(cat:1.5)"), read_emphasis("a (fat) cat")
    (('cat', 1.5), ('a (fat) cat', 1.0))

    Raises:
        ValueError: For a decimal comma, `(cat:1,5)`.
    """
    inner, factor = text.strip(), 1.0
    while (layer := _peeled(inner)) is not None and layer[0].strip():
        inner, factor = layer[0].strip(), factor * layer[1]
    return (text, 1.0) if inner == text.strip() else (inner, round(factor, 6))


def weighted(prompt: str | tuple[str, ...]) -> tuple[str | tuple[str, ...], float]:
    """The prompt, and the factor of its weight that it holds in words; a warning says how it is read."""
    if isinstance(prompt, str):
        text, factor = read_emphasis(prompt)
        if text != prompt:
            warnings.warn(
                f"{prompt!r} is read as {text!r} with weight {factor:g}, as web UIs and compel write it; give "
                f"({text!r}, {factor:g}) to say so without this word, or \\( \\) for brackets that belong to the text",
                stacklevel=4,
            )
            return text, factor
    weighted = next(filter(holds_emphasis, (prompt,) if isinstance(prompt, str) else prompt), None)
    if weighted is not None:
        parts = [read_emphasis(part) for part in items(weighted)]
        apart = ", ".join(repr(text) if factor == 1 else f"({text!r}, {factor:g})" for text, factor in parts)
        warnings.warn(
            f"brackets and signs in {weighted!r} stand in the text as they are, since only a text that is weighted as a "
            f"whole, like (cat:1.5), is read as a weight; give what has another weight apart: [{apart}]. Write \\( \\) "
            "for brackets that belong to the text",
            stacklevel=4,
        )
    return prompt, 1.0


def holds_emphasis(text: str) -> bool:
    """Whether some part of the text looks like a weight."""
    return bool(pairs(text)) or _SIGNED_WORD.search(text) is not None


def literal(text: str) -> str:
    r"""The text for the encoder: `\(` and the like are the characters themselves."""
    return _ESCAPED.sub(r"\1", text)


def pairs(text: str, start: int = 0, end: int | None = None) -> dict[int, int]:
    """Place of each opening bracket of `text[start:end]` that is closed there -> place of what closes it."""
    closed, waiting, at = {}, [], start
    end = len(text) if end is None else end
    while at < end:
        if text[at] == "\\":
            at += 1
        elif text[at] in "([":
            waiting.append(at)
        elif text[at] in _CLOSES and waiting and text[waiting[-1]] == _CLOSES[text[at]]:
            closed[waiting.pop()] = at
        at += 1
    return closed


def items(text: str) -> list[str]:
    """The text parted at its commas, those inside brackets aside."""
    inside = {place for opened, closed in pairs(text).items() for place in range(opened, closed)}
    marks = [-1, *(at for at, letter in enumerate(text) if letter == "," and at not in inside), len(text)]
    return [text[low + 1 : high].strip() for low, high in itertools.pairwise(marks)]


def _peeled(text: str) -> tuple[str, float] | None:
    """The text without its outermost weight, and that weight; None where it has none."""
    closed = pairs(text).get(0)
    if closed is None:
        match = _SIGNS.fullmatch(text)
        # One sign behind a bare word may be meant as it stands (18+, B-).
        if match is None or len(match[2]) < 2 or not _WORD.fullmatch(match[1]):
            return None
        return match[1], _signs(match[2])
    behind, inner = text[closed + 1 :], text[1:closed]
    if text[0] == "[":
        # [a|b] and [a:b:0.5] change during sampling in web UIs: no weight.
        return None if behind or any(mark in inner for mark in "|:") else (inner, 1 / UP)
    if not behind:
        return _of_parentheses(inner)
    if match := _NUMBER.fullmatch(behind):
        return inner, float(match[1])
    return (inner, _signs(behind)) if behind.strip("+") == "" or behind.strip("-") == "" else None


def _of_parentheses(inner: str) -> tuple[str, float]:
    """`cat:1.5` -> ("cat", 1.5); without a number, the parentheses weigh 1.1."""
    text, colon, number = inner.rpartition(":")
    if colon and _DECIMAL_COMMA.fullmatch(number):
        raise ValueError(f"({inner}): {number.strip()!r} has a decimal comma; write {number.strip().replace(',', '.')}")
    if colon and (match := _NUMBER.fullmatch(number)) and not text.endswith("\\"):
        return text, float(match[1])
    return inner, UP


def _signs(signs: str) -> float:
    return float((UP if signs[0] == "+" else DOWN) ** len(signs))
