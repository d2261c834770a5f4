"""Negatives written inside a prompt: `a portrait --no glasses:0.8, hat@0-0.4`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from negguide.methods.base import Window
from negguide.methods.emphasis import pairs
from negguide.methods.negative import Negative
from negguide.methods.step import NUMBER

_FLAG = re.compile(r"(?<!\S)--no(?!\S)")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED_FLAG = re.compile(r"(?<!\S)\\(\\*--no)(?!\S)")
_FLAG_TO_ESCAPE = re.compile(r"(?<!\S)(\\*--no)(?!\S)")
_WEIGHT = re.compile(rf"\s*({NUMBER})\s*")
_DECIMAL_COMMA = re.compile(r":\s*(\d+),(\d+)\s*(?:@.*)?", re.DOTALL)


def parse_prompt(text: str) -> tuple[str, tuple[Negative, ...]]:
    r"""Split a prompt from the negatives written after `--no`.

    `--no` (a word of its own, at any place, several times) starts a list that goes to the next `--no` or the end. Its
    items are separated by commas; each is `text[:weight][@start-stop]`: a weight of 0 or more (1 when left out) and a
    window in fractions of sampling, or in sigma with `@14.6-1sigma`. A backslash takes the meaning off the next
    character: `\,` `\:` `\@` `\\` in an item; `\--no` in the prompt is the word itself. Inside brackets the three mean
    nothing, so that `(cat, dog:1.3)` is one item, weighted as `Negative` reads it. Without `--no`, the prompt comes back
    as it is; otherwise without the space at its ends.

    >>> parse_prompt("a portrait --no glasses:0.8, hat@0-0.4")[0]
    'a portrait'

    Raises `ValueError` that says what is wrong at which character (counted from 1).
    """
    flags = list(_FLAG.finditer(text))
    if not flags:
        return _ESCAPED_FLAG.sub(r"\1", text), ()
    negatives: list[Negative] = []
    for flag, end in zip(flags, [flag.start() for flag in flags[1:]] + [len(text)], strict=True):
        negatives += _items(text, flag.end(), end)
    return _ESCAPED_FLAG.sub(r"\1", text[: flags[0].start()]).strip(), tuple(negatives)


def format_prompt(prompt: str, negatives: Sequence[Negative] = ()) -> str:
    """The inverse of `parse_prompt`. `ValueError` for what has no inline form: masks and one text per prompt."""
    prompt = _FLAG_TO_ESCAPE.sub(r"\\\1", prompt)
    return f"{prompt} --no {', '.join(map(_format, negatives))}".strip() if negatives else prompt


def _items(text: str, start: int, end: int) -> list[Negative]:
    """The items of one list, `text[start:end]`."""
    if not text[start:end].strip():
        raise _error(text, start, "nothing follows '--no'; name what is not wanted, e.g. '--no hat, glasses:0.8'")
    marks = [at for at in _plain(text, start, end) if text[at] == ","]
    for at in marks:
        if match := _DECIMAL_COMMA.fullmatch(text, text.rfind(":", start, at), _next(marks, at, end)):
            raise _error(text, at, f"a decimal comma; write the decimal point, :{match[1]}.{match[2]}")
    return [_item(text, low + 1, high) for low, high in itertools.pairwise([start - 1, *marks, end])]


def _next(marks: Sequence[int], at: int, end: int) -> int:
    """The end of the item that begins behind the comma at `at`."""
    return next((mark for mark in marks if mark > at), end)


def _item(text: str, start: int, end: int) -> Negative:
    """One item, `text[start:end]`."""
    marks = [at for at in _plain(text, start, end) if text[at] in ":@"]
    name = _ESCAPED.sub(_unescaped, text[start : marks[0] if marks else end].strip())
    if not name.strip():
        raise _error(text, start, "a negative without text; every item between commas needs one")
    options: dict[str, float | Window] = {}
    for at, stop in itertools.pairwise([*marks, end]):
        key = "weight" if text[at] == ":" else "window"
        if key in options or (key == "weight" and "window" in options):
            raise _error(
                text,
                at,
                rf"{text[at]!r} comes too late or twice; the form is text:weight@start-stop, and \{text[at]} in a text",
            )
        options[key] = _weight(text, at, stop) if key == "weight" else window_at(text, at, stop)
    return Negative(name, **options)  # type: ignore[arg-type]


def _weight(text: str, at: int, stop: int) -> float:
    if match := _WEIGHT.fullmatch(text, at + 1, stop):
        return float(match[1])
    given = text[at + 1 : stop].strip()
    raise _error(
        text, at, rf"the weight {given!r} is not a number of 0 or more, e.g. hat:0.8; a colon in a text is written \:"
    )


def window_at(text: str, at: int, stop: int) -> Window:
    """The window written as `@start-stop` or `@start-stopsigma` in `text[at:stop]`; `ValueError` names the character."""
    given = text[at + 1 : stop].strip()
    try:
        window = Window.parse(given)
    except ValueError as error:
        raise _error(text, at, f"the window {given!r}: {error}") from error
    if window is None:
        raise _error(
            text,
            at,
            rf"the window {given!r} is not start-stop, e.g. hat@0-0.4 (fractions) or hat@14.6-1sigma; \@ in a text",
        )
    return window


def _unescaped(match: re.Match[str]) -> str:
    """What a backslash and the next character stand for; `Negative` itself reads those before brackets and signs."""
    return match[0] if match[1] in "()[]+" else match[1]


def _plain(text: str, start: int, end: int) -> list[int]:
    """Positions in `text[start:end]`, brackets aside, of the characters that no backslash has taken the meaning off."""
    positions, at = [], start
    closed = pairs(text, start, end)
    while at < end:
        if text[at] == "\\":
            at += 2
            continue
        if at in closed:
            at = closed[at] + 1
            continue
        positions.append(at)
        at += 1
    return positions


def _format(negative: Negative) -> str:
    if negative.mask is not None or negative.instead_of is not None or not isinstance(negative.prompt, str):
        raise ValueError(
            f"{negative!r} has no inline form: masks, instead_of and one text per prompt need negguide.Negative"
        )
    text = re.sub(r"([\\,:@])", r"\\\1", negative.prompt.strip())
    text = re.sub(r"(?<!\S)--no(?!\S)", r"\\--no", text)
    weight = "" if negative.weight == 1 else f":{_number(negative.weight)}"
    window = negative.window
    if window == Window():
        return text + weight
    return f"{text}{weight}@{_number(window.start)}-{_number(window.stop)}" + (
        "sigma" if window.unit == "sigma" else ""
    )


def _number(value: float) -> str:
    return repr(float(value)).removesuffix(".0")


def _error(text: str, at: int, what: str) -> ValueError:
    return ValueError(f"at character {at + 1} of {text!r}: {what}")
