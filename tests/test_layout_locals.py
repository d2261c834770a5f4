"""Locals and parameters say what they hold: names that any value could have are refused anywhere in the package."""

from __future__ import annotations

import ast
import collections
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


def test_a_class_has_its_name_alone_in_its_room() -> None:
    """The same word may stand in two rooms (a batch's `Plan`, a pipeline's), never twice in one."""
    classes = collections.Counter(
        (file.relative_to(PACKAGE).parts[0], node.name)
        for file in PACKAGE.rglob("*.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert not [place for place, count in classes.items() if count > 1]


def test_no_file_imports_two_classes_of_one_name() -> None:
    for file in PACKAGE.rglob("*.py"):
        homes: dict[str, set[str]] = collections.defaultdict(set)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("negguide."):
                for alias in node.names:
                    if alias.name[0].isupper() and not alias.name.isupper():
                        homes[alias.name].add(node.module)
        rooms = {name: {module.split(".")[1] for module in modules} for name, modules in homes.items()}
        assert not {name: modules for name, modules in rooms.items() if len(modules) > 1}, file
