"""Locals and parameters say what they hold: names that any value could have are refused anywhere in the package."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "negguide"
SAYING_NOTHING = {"found", "told", "made", "mine", "one", "known"}


def _names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of whatever a function binds: parameters, assignments, loops, comprehensions, `with` and `except`."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.lineno, node.id
            elif isinstance(node, ast.arg):
                yield node.lineno, node.arg
            elif isinstance(node, ast.ExceptHandler) and node.name:
                yield node.lineno, node.name


def _refused(source: str) -> set[tuple[int, str]]:
    return {(line, name) for line, name in _names(ast.parse(source)) if name in SAYING_NOTHING}


def test_locals_say_what_they_hold() -> None:
    refused = {
        f"{file.relative_to(PACKAGE)}:{line}: {name}"
        for file in PACKAGE.rglob("*.py")
        for line, name in _refused(file.read_text(encoding="utf-8"))
    }
    assert not refused, sorted(refused)


def test_such_names_would_be_seen() -> None:
    source = "def f(told):\n    found = [one for one in told]\n    with x as made:\n        return lambda mine: (known := found)\n"
    assert _refused(source) == {(1, "told"), (2, "found"), (2, "one"), (3, "made"), (4, "mine"), (4, "known")}
    assert not _refused("def f(names):\n    return [name.known for name in names]\n")
