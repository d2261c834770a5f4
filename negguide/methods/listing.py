"""The methods and their options in words: for the command line, the demo and other programs."""

from __future__ import annotations

import dataclasses
from typing import Any

from negguide.methods.options import default_text, has_default, option_of, possible_texts, types_of
from negguide.methods.registry import METHODS, get_method


def table() -> list[dict[str, str]]:
    """Every registered method with what there is to know of it, as texts."""
    return [
        {
            "name": entry.name,
            "class": entry.method.__name__,
            "does": entry.summary,
            "cost": entry.cost,
            "needs": "negatives" if entry.takes_negatives else "",
            "paper": entry.paper,
        }
        for entry in METHODS.values()
    ]


def describe(name: str) -> dict[str, Any]:
    """One method with its options, each with help, range, possible texts and default. `ValueError` for an unknown name."""
    entry = get_method(name)
    options = []
    for field in dataclasses.fields(entry.method):
        if field.name in entry.presets or field.name == "negatives":
            continue
        meaning, parts = option_of(field), types_of(entry.method)[field.name]
        options.append(
            {
                "name": field.name,
                "help": meaning.help,
                "range": meaning.range,
                "possible": list(possible_texts(meaning, parts)),
                "default": default_text(field) if has_default(field) else "",
            }
        )
    return {**next(row for row in table() if row["name"] == name), "options": options}
