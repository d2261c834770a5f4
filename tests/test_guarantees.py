"""docs/guarantees.md names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "guarantees.md"


def _tests(file: Path) -> set[str]:
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{one.name}" for one in node.body if isinstance(one, ast.FunctionDef)}
    return found


def test_every_line_of_the_tables_names_a_test_that_exists() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith("| what")]
    assert len(rows) >= 8
    for row in rows:
        named = re.findall(r"`(?:tests/)?(test_\w+\.py)::([\w:]+)`", row.rsplit("|", 2)[1])
        assert named, f"no test is named in {row!r}"
        for file, name in named:
            assert name in _tests(HERE / file), f"{file} has no {name}"
