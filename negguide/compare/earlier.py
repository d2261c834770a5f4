"""A folder that holds an earlier comparison: that one is set aside whole, so that no two runs are mixed and none is lost."""

from __future__ import annotations

import json
import re
from pathlib import Path

from negguide.compare.records import FILE
from negguide.experiment.html import REPORT

FOLDER = "earlier"


def set_aside(out: Path) -> str | None:
    """Move the comparison that lies in `out` into a folder of its own in there, and say which; None where there is none.

    Only what that comparison wrote is moved, by what its `results.json` says.
    """
    if not (out / FILE).is_file():
        return None
    try:
        results = json.loads((out / FILE).read_bytes())
        started = str(results["started"])
        folders = [str(comparison["slug"]) for comparison in results["comparisons"]]
    except (ValueError, KeyError, TypeError):  # damaged, or of somebody else
        started, folders = "", []
    place = _free(out / FOLDER / (re.sub(r"[^0-9T-]", "-", started[:19]) or "unknown"))
    place.mkdir(parents=True)
    for name in (*folders, REPORT, FILE):
        if "/" not in name and name not in ("", ".", "..") and (out / name).exists():
            (out / name).rename(place / name)
    return place.relative_to(out).as_posix()


def _free(place: Path) -> Path:
    number, free = 1, place
    while free.exists():
        number += 1
        free = place.with_name(f"{place.name}-{number}")
    return free
