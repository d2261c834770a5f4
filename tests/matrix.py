"""What every method does on every tiny pipeline, found by trying: the table from which the matrix of families is made.

`python tests/matrix.py` tries all cells and writes `negguide/pipeline/families/tested.json` and docs/families.md; with names
of builders, of methods, or of both, these only; with `--page`, the page only. `test_matrix` tries cells again and holds them
against the file.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

import diffusers
import families
import torch
from test_contract import METHODS

from negguide import formats
from negguide.engine import Unsupported, attach
from negguide.methods import SPELL
from negguide.pipeline.families.matrix import TESTED, WORKS, as_markdown, counts, matrix

STEPS = {"img2img": 3}
"""Steps of a call, two elsewhere: its strength leaves one of them out."""
OWN: dict[tuple[str, str], Any] = {("allegro", "spell"): lambda: SPELL(300.0)}
"""Methods of single cells: the estimates of this one lie further apart."""
BUILDERS = families.FAMILIES | families.MORE


class Fault(AssertionError):
    """A cell that is neither right nor refused with a reason."""


def several(method: str, name: str) -> list[dict[str, Any]]:
    """Ways to ask for as many images as a method couples: of one prompt, or of the same prompt again."""
    count = METHODS[method].images
    if count == 1:
        return [{}]
    seeds = [torch.Generator().manual_seed(seed) for seed in range(count)]
    takes = inspect.signature(type(families.build(name)).__call__).parameters
    argument = next((key for key in ("num_videos_per_prompt",) if key in takes), "num_images_per_prompt")
    return [{argument: count, "generator": seeds}, {"prompt": ["a pet on grass"] * count, "generator": seeds}]


def outcome(name: str, method: str) -> str:
    """`WORKS`, or the reason of a refusal in words; raises `Fault` for anything else.

    Works: settings that must change nothing give the plain picture bit for bit; at work it gives another, finite
    picture; afterwards the pipeline gives the plain one.
    """
    row, pipe = METHODS[method], families.build(name)

    def run(way: int) -> torch.Tensor:
        return families.run(name, steps=STEPS.get(name, 2), **several(method, name)[way])

    for way in range(len(several(method, name))):
        try:
            plain = run(way)
            break
        except (TypeError, ValueError, RuntimeError):
            if row.images == 1:
                raise
    else:
        return "the plain pipeline makes one picture of a prompt, so there are no two to compare"
    reason = ""
    try:
        if row.neutral is not None:
            with attach(pipe, row.neutral()):
                neutral = run(way)
            if not torch.equal(neutral, plain):
                raise Fault(f"{method} on {name}: neutral settings change the picture")
        with attach(pipe, OWN.get((name, method), lambda: row.on(name))()):
            found = run(way)
    except Unsupported as error:
        reason = str(error)
    except Fault:
        raise
    except Exception as error:
        raise Fault(f"{method} on {name}: {type(error).__name__}: {error}") from error
    if not torch.equal(run(way), plain):
        raise Fault(f"{method} on {name}: the pipeline is not as it was")
    if reason:
        return " ".join(re.split(r" (?:Supported|Known): ", reason)[0].split())
    if not found.isfinite().all():
        raise Fault(f"{method} on {name}: what it gives is not finite")
    if torch.equal(found, plain):
        raise Fault(f"{method} on {name}: it changes nothing")
    return WORKS


PAGE = Path(__file__).parent.parent / "docs" / "families.md"
HEAD = """# Pipelines and methods

Every pipeline class of diffusers {version} that takes a prompt, with every method: ✓ works (on a small pipeline of the real
class: neutral settings give the plain picture bit for bit, at work it gives another, detached the plain one; the name in
brackets is the case of `tests/test_matrix.py`), [n] impossible, with the reason below the table.

Of {pipelines} classes {tried} are tried, {refused} are refused as a whole, and the rest is guided by what probing finds, without
a test of its own. Of the cells of those tried {works} work and {impossible} are impossible.

Written by `python tests/matrix.py`, which tries all; `negguide methods --families` prints the tables, with `--json` for programs.

"""


def write_page() -> None:
    rows = matrix()
    PAGE.write_text(HEAD.format(version=diffusers.__version__, **counts(rows)) + as_markdown(rows), "utf-8")


def main(names: list[str]) -> int:
    """Try builders and methods (all without names), write what was found; returns the number of faults."""
    if names == ["--page"]:
        write_page()
        return 0
    path = Path(TESTED)
    known = json.loads(path.read_text("utf-8")) if path.exists() else {"pipelines": {}}
    faults = 0
    methods = [name for name in names if name in METHODS] or list(METHODS)
    for name in [name for name in names if name not in METHODS] or BUILDERS:
        before = known["pipelines"].get(name, {"cells": {}})["cells"]
        cells = {method: cell for method, cell in before.items() if method in METHODS}
        for method in methods:
            try:
                cells[method] = outcome(name, method)
            except Fault as fault:
                faults += 1
                cells.pop(method, None)
                print(f"FAULT {fault}", flush=True)
        cls = type(families.build(name)).__name__
        cells = {method: cells[method] for method in METHODS if method in cells}
        known["pipelines"][name] = {"class": cls, "cells": cells}
        print(f"{name}: {sum(cell == WORKS for cell in cells.values())} of {len(METHODS)} work", flush=True)
    known["diffusers"] = diffusers.__version__
    known["pipelines"] = {name: known["pipelines"][name] for name in BUILDERS if name in known["pipelines"]}
    path.write_text(json.dumps(formats.stamped(known), indent=1) + "\n", "utf-8")
    write_page()
    return faults


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(min(main(sys.argv[1:]), 1))
