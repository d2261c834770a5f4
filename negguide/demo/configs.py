"""What a method's config tells of itself beside its types: the range of a number, and its help."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable
from typing import Any

from negguide.methods import Method
from negguide.methods.registry import Entry

_FAR, _MANY = 1e6, 1000
_HELP = 220


def bounds_of(entry: Entry, field: str, default: Any, kind: str) -> tuple[float | None, float | None]:
    """The range that the config itself accepts, by asking it; None where there is no bound."""
    works = _tester(entry, field)
    far = _FAR if kind == "number" else _MANY
    inside = default if default is not None else next((x for x in (1, 0.5, 0, 2) if works(x)), None)
    if inside is None or not works(inside):
        return None, None
    low = None if works(-far) else _edge(works, inside, -far, kind)
    high = (None if kind == "number" else far) if works(far) else _edge(works, inside, far, kind)
    return low, high


def _tester(entry: Entry, field: str) -> Callable[[Any], bool]:
    required = {
        one.name: "something"
        for one in dataclasses.fields(entry.method)
        if one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
    }
    if "watcher" in required:
        required["watcher"] = "toybox"
    if "watch" in {one.name for one in dataclasses.fields(entry.method)}:
        required["watch"] = "something"

    def works(value: Any) -> bool:
        try:
            entry(**{**required, field: value})
        except (TypeError, ValueError):
            return False
        return True

    return works


def _edge(works: Callable[[Any], bool], inside: float, outside: float, kind: str) -> float:
    """The last value that works between one that does and one that does not."""
    for _ in range(80):
        middle = (inside + outside) / 2 if kind == "number" else int((inside + outside) // 2)
        if middle in (inside, outside):
            break
        inside, outside = (middle, outside) if works(middle) else (inside, middle)
    rounded = 0.0 if abs(inside) < 1e-12 else float(f"{inside:.6g}")
    return rounded if works(rounded) else inside


def help_of(method: type[Method], field: str) -> str:
    """What the docstring says of a field: from where it is first named to where another one is."""
    text = " ".join(inspect.cleandoc(method.__doc__ or "").split(">>>")[0].split())
    others = "|".join(re.escape(one.name) for one in dataclasses.fields(method) if one.name != field)
    named = rf"`{re.escape(field)}`"
    found = re.search(
        rf"(?:(?<=[.;:] )|(?<=^))({named}[^`]*?(?:`(?!(?:{others})`)[^`]*`[^`]*?)*?)(?= `(?:{others})`|$)", text
    )
    if found is None:
        sentence = next((one for one in re.split(r"(?<=[.;]) ", text) if named.replace("\\", "") in one), "")
        return _short(sentence)
    return _short(re.sub(rf"^{named}\s*(\([^)]*\))?\s*:?\s*", r"\1 ", found[1]))


def _short(text: str) -> str:
    text = text.strip(" ,;:.").replace("`", "").removeprefix("is ")
    if len(text) > _HELP:
        text = text[:_HELP].rpartition(" ")[0] + " …"
    return text[:1].upper() + text[1:]
