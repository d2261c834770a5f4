"""Every pipeline class of diffusers that takes a prompt, and what each method does on it, as far as it is known.

Known from two sources: the refusals of the files of this folder, and `tested.json`, which is written by trying each
method on small pipelines of the real classes.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from negguide.pipeline.families.checks import GUIDERS, check_pipeline
from negguide.pipeline.families.family import Unsupported
from negguide.pipeline.families.registry import family_of

TESTED = Path(__file__).with_name("tested.json")
WORKS = "works"
UNTESTED = "untested"


def matrix() -> list[dict[str, object]]:
    """A row for each pipeline class of the installed diffusers that makes pictures or videos of a prompt.

    Returns:
        Rows of `pipeline`, `family`, `test` (the builder whose cells are tried; empty without), `reason` (why the whole
        pipeline is refused; empty otherwise) and `cells`: method -> "works", "untested" or why it is impossible.
    """
    tested = json.loads(TESTED.read_text("utf-8"))["pipelines"]
    methods = list(dict.fromkeys(method for row in tested.values() for method in row["cells"]))
    builders = {row["class"]: (name, row["cells"]) for name, row in reversed(tested.items())}
    return [_row(cls, methods, *builders.get(cls.__name__, ("", {}))) for cls in _pipelines()]


def counts(rows: list[dict[str, Any]]) -> dict[str, int]:
    """How many pipelines are refused, tried and untested, and how many cells of each kind the tried ones have."""
    tried = [row for row in rows if row["test"] and not row["reason"]]
    cells = [cell for row in tried for cell in row["cells"].values()]
    return {
        "pipelines": len(rows),
        "tried": len(tried),
        "refused": sum(bool(row["reason"]) for row in rows),
        "works": cells.count(WORKS),
        "untested": cells.count(UNTESTED),
        "impossible": sum(cell not in (WORKS, UNTESTED) for cell in cells),
    }


def works_on(rows: list[dict[str, Any]]) -> dict[str, int]:
    """On how many of the tried pipelines each method works."""
    tried = [row for row in rows if row["test"] and not row["reason"]]
    methods = dict.fromkeys(method for row in tried for method in row["cells"])
    return {method: sum(row["cells"][method] == WORKS for row in tried) for method in methods}


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """The matrix as tables: cells, reasons of methods, reasons of pipelines, classes that no test tries."""
    tried = [row for row in rows if row["test"] and not row["reason"]]
    untried = [row for row in rows if not row["test"] and not row["reason"]]
    methods = list(dict.fromkeys(method for row in tried for method in row["cells"]))
    notes: dict[str, int] = {}
    lines = [f"| pipeline | {' | '.join(methods)} |", f"|---|{'---|' * len(methods)}"]
    for row in tried:
        shown = [_shown(row["cells"][method], notes) for method in methods]
        lines.append(f"| {row['pipeline']} (`{row['test']}`) | {' | '.join(shown)} |")
    lines.append(f"| **works on, of {len(tried)} tried** | {' | '.join(map(str, works_on(rows).values()))} |")
    lines += ["", *(f"{number}. {reason}" for reason, number in notes.items())]
    lines += ["", "## Refused as a whole", "", "| pipeline | because |", "|---|---|"]
    lines += [f"| {row['pipeline']} | {row['reason']} |" for row in rows if row["reason"]]
    lines += ["", "## Not refused, and not tried by a test of its own", ""]
    families = dict.fromkeys(row["family"] for row in untried)
    lines += [
        f"- {family}: {', '.join(row['pipeline'] for row in untried if row['family'] == family)}" for family in families
    ]
    return "\n".join(lines) + "\n"


def _shown(cell: str, notes: dict[str, int]) -> str:
    if cell in (WORKS, UNTESTED):
        return {WORKS: "✓", UNTESTED: "?"}[cell]
    return f"[{notes.setdefault(cell, len(notes) + 1)}]"


def _pipelines() -> Iterator[type]:
    """Classes that diffusers exports and whose call takes a prompt; what makes sound only is left out."""
    import diffusers

    for name in sorted(name for name in dir(diffusers) if "Pipeline" in name or name.endswith("Wrapper")):
        try:
            cls = getattr(diffusers, name)
        except (ImportError, RuntimeError):  # needs a package that is not there
            continue
        own = isinstance(cls, type) and issubclass(cls, diffusers.DiffusionPipeline)
        if own and cls is not diffusers.DiffusionPipeline and not name.startswith("Auto") and "Audio" not in name:
            parameters = inspect.signature(cls.__call__).parameters
            if "prompt" in parameters or "task_prompt" in parameters:
                yield cls


def _row(cls: type, methods: list[str], test: str, cells: dict[str, str]) -> dict[str, object]:
    reason = _refusal(cls)
    return {
        "pipeline": cls.__name__,
        "family": family_of(cls).name,
        "test": test,
        "reason": reason,
        "cells": {method: reason or cells.get(method, UNTESTED) for method in methods},
    }


def _refusal(cls: type) -> str:
    """Why pipelines of this class are refused before any call; "" where they are not."""
    names = inspect.signature(cls).parameters
    parts = {name: object() for name in names if name not in ("scheduler", *GUIDERS)}
    pipe = SimpleNamespace(**{**parts, "scheduler": SimpleNamespace(step=None)})
    try:
        check_pipeline(pipe, cls, inspect.signature(cls.__call__).parameters)
    except Unsupported as error:
        return str(error).split(" is not supported: ", 1)[-1].split(" Supported: ")[0].rstrip(".")
    return ""
