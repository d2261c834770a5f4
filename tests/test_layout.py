"""The house as docs/architecture.md draws it: which room may import which, no circles, small files."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ALLOWED = {
    "maths": set(),
    "metrics": {"plugins", "wording"},
    "versions": set(),
    "deprecation": set(),
    "plugins": set(),
    "formats": set(),
    "weights": set(),
    "wording": set(),
    "names": {"metrics", "plugins"},
    "watchers": {"metrics", "names", "plugins", "versions", "wording"},
    "methods": {"deprecation", "formats", "maths", "metrics", "names", "plugins", "watchers", "wording"},
    "pipeline": {"maths", "methods", "plugins"},
    "engine": {"methods", "pipeline", "watchers"},
    "experiment": {"formats", "engine", "methods", "metrics", "names", "versions", "watchers", "wording"},
    "compare": {"formats", "engine", "experiment", "methods", "watchers", "wording"},
    "batch": {"formats", "engine", "experiment", "methods", "metrics", "names", "wording"},
    "pairs": {"formats", "experiment", "methods"},
    "demo": {"engine", "formats", "experiment", "methods", "metrics", "names", "wording"},
    "commands": {
        "batch",
        "compare",
        "demo",
        "experiment",
        "formats",
        "learn",
        "methods",
        "names",
        "pairs",
        "pipeline",
        "weights",
    },
    "cli": {"commands"},
    "__main__": {"cli", "commands"},
    "toybox": {"experiment", "lab", "metrics", "names", "versions", "watchers", "wording"},
    "lab": {
        "formats",
        "cli",
        "engine",
        "learn",
        "maths",
        "methods",
        "metrics",
        "names",
        "toybox",
        "watchers",
        "weights",
    },
    "custom": {"engine", "methods"},
    "processors": {"engine", "maths", "methods", "pipeline"},
    "learn": {"engine", "maths", "methods"},
    "modular": {"engine", "guiders", "methods"},
    "guiders": {"maths", "methods", "pipeline", "processors"},
    "sds": {"maths"},
}
GROUND = {"types"}
"""Rooms that every other may import; they import none."""
ALLOWED = {room: below | GROUND for room, below in ALLOWED.items()} | {room: set() for room in GROUND}
"""Room -> the rooms it may import. The Toybox is known by `plugins` alone, by name, as any other package's plug-in is."""


def _modules() -> dict[str, Path]:
    files = [*(ROOT / "negguide").rglob("*.py"), *(ROOT / "lab").rglob("*.py")]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def _imports(file: Path, modules: dict[str, Path]) -> Iterator[str]:
    """Modules of ours that a file imports anywhere: at its top, inside functions, for type checkers."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if full in modules or node.module in modules:
                    yield full if full in modules else node.module


def _room(module: str) -> str:
    first, *rest = module.split(".")
    return rest[0] if first == "negguide" and rest else first


def _arrows() -> set[tuple[str, str, str]]:
    modules = _modules()
    found = {(_room(name), _room(other), name) for name, file in modules.items() for other in _imports(file, modules)}
    return {(start, end, name) for start, end, name in found if start != end and "negguide" not in (start, end)}


def test_rooms_import_only_what_stands_below_them() -> None:
    forbidden = [f"{name} imports {end}" for start, end, name in _arrows() if end not in ALLOWED[start]]
    assert not forbidden, sorted(forbidden)


def test_the_allowed_arrows_have_no_circle() -> None:
    # lab and toybox know each other: `negguide toybox` shows the laboratory's commands where there is a checkout.
    floors = {room: below - {"lab"} for room, below in ALLOWED.items()}
    order = list(graphlib.TopologicalSorter(floors).static_order())
    assert order.index("maths") < order.index("methods") < order.index("engine") < order.index("experiment")


def test_no_files_import_each_other_in_a_circle() -> None:
    modules = _modules()
    faces = {name for name, file in modules.items() if file.name == "__init__.py"}
    graph = {
        name: {other for other in _imports(file, modules) if other != name and other not in faces}
        for name, file in modules.items()
        if name not in faces and name not in ("negguide.toybox.commands", "lab.commands")
    }
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_a_new_arrow_would_be_seen(tmp_path: Path) -> None:
    file = tmp_path / "new.py"
    file.write_text("def late():\n    from negguide.toybox.load import bundled\n")
    modules = _modules()
    assert list(_imports(file, modules)) == ["negguide.toybox.load"]
    assert "toybox" not in ALLOWED["engine"] | ALLOWED["experiment"] | ALLOWED["commands"]


def test_the_core_knows_no_method_and_no_family_by_name() -> None:
    """Nothing in engine/ or pipeline/ imports a method's file; nothing in methods/ names a family."""
    modules = _modules()
    ground = {
        "base",
        "events",
        "state",
        "step",
        "finish",
        "tokens",
        "negative",
        "mask",
        "looks",
        "registry",
        "avoid",
        "reference",
    }
    for name, file in modules.items():
        if name.startswith(("negguide.engine.", "negguide.pipeline.")):
            used = {other.split(".")[2] for other in _imports(file, modules) if other.startswith("negguide.methods.")}
            assert used <= ground, (name, used - ground)


def test_no_room_holds_a_fifth_of_the_package() -> None:
    lines: dict[str, int] = {}
    for file in (ROOT / "negguide").rglob("*.py"):
        room = file.relative_to(ROOT / "negguide").parts[0]
        lines[room] = lines.get(room, 0) + len(file.read_text().splitlines())
    shares = {room: count / sum(lines.values()) for room, count in lines.items()}
    assert max(shares.values()) < 0.2, sorted(shares.items(), key=lambda share: -share[1])[:3]


@pytest.mark.parametrize("room", ["negguide", "lab"])
def test_files_are_rooms_of_at_most_300_lines(room: str) -> None:
    long = {
        str(file.relative_to(ROOT / room)): lines
        for file in (ROOT / room).rglob("*.py")
        if (lines := len(file.read_text().splitlines())) > 300
    }
    assert not long


def test_files_of_tests_have_at_most_320_lines() -> None:
    lines = {file.name: len(file.read_text(encoding="utf-8").splitlines()) for file in (ROOT / "tests").rglob("*.py")}
    assert not {name: count for name, count in lines.items() if count > 320}
