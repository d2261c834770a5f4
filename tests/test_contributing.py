"""CONTRIBUTING.md names what is there: files, folders, functions, make targets."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from negguide.methods import Method
from negguide.plugins import GROUP

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
CODE = re.findall(r"`([^`\n]+)`", TEXT)


def test_paths_exist() -> None:
    paths = [code for code in CODE if re.fullmatch(r"[\w./*-]+\.(py|md)|(tests|negguide)/[\w/]+", code)]
    paths = [code for code in paths if "NAME" not in code and code != "family.py"]
    assert len(paths) > 15
    assert not [path for path in paths if not list(ROOT.glob(path))]


@pytest.mark.parametrize("code", [code for code in CODE if code.startswith("negguide.")])
def test_dotted_names_exist(code: str) -> None:
    module, _, name = code.partition("(")[0].rpartition(".")
    if code == GROUP:
        return
    assert hasattr(importlib.import_module(module), name)


def test_what_a_method_overrides_is_there() -> None:
    item = TEXT[TEXT.index("4. Override what it needs") : TEXT.index("5. Put the mathematics")]
    named = re.findall(r"`([a-z_]+)`", item)
    assert len(named) >= 6
    assert not [name for name in named if not hasattr(Method, name)]


def test_the_entry_point_is_the_one_that_is_read() -> None:
    example = (ROOT / "tests" / "theirs" / "theirs-1.0.dist-info" / "entry_points.txt").read_text()
    assert f'entry-points."{GROUP}"' in TEXT and f"[{GROUP}]" in example
    assert "theirs.plugin:register" in TEXT and "theirs.plugin:register" in example


def test_there_are_four_checklists() -> None:
    for title in ("A method", "A model family", "A watcher", "A bundled model"):
        section = re.search(rf"^## {title}\n(.*?)^## ", TEXT, re.DOTALL | re.MULTILINE)
        assert section and len(re.findall(r"^\d\. ", section[1], re.MULTILINE)) >= 4
