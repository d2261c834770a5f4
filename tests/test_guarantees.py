"""docs/guarantees.md names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "guarantees.md"


def _tests(file: Path) -> set[str]:
    names = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and not _is_left_out(node):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}::{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return names


def _is_left_out(test: ast.FunctionDef) -> bool:
    """Whether a whole test is skipped or expected to fail: such a test holds no promise."""
    return any(re.search(r"\.(skip|xfail)\b", ast.unparse(decorator)) for decorator in test.decorator_list)


def test_every_line_of_the_tables_names_a_test_that_exists() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith("| what is promised") and not row.startswith("| what fails")]
    assert len(rows) >= 100
    for row in rows:
        cell = row.rsplit("|", 2)[1]
        named = re.findall(r"`tests/(test_\w+\.py)::([\w:]+)`", cell)
        assert named and 2 * len(named) == cell.count("`"), f"something else than tests is named in {row!r}"
        for file, name in named:
            assert name in _tests(HERE / file), f"{file} has no {name}"
