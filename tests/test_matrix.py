"""The matrix of families says what is so: its cells are tried again, and its page is the command's own printout."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import diffusers
import families
import matrix as table
import pytest
from typer.testing import CliRunner

from negguide.cli import app
from negguide.pipeline.families import matrix as shown

TESTED = json.loads(Path(shown.TESTED).read_text("utf-8"))
CELLS = [(name, method) for name, row in TESTED["pipelines"].items() for method in row["cells"]]
THIN = ("negative_prompt", "nag", "adaptive")
"""Tried by default, where `test_contract` does not try all; the rest by `make test-all`."""
PAGE = Path(__file__).parent.parent / "docs" / "families.md"
SAME = diffusers.__version__ == TESTED["diffusers"]
same_diffusers = pytest.mark.skipif(not SAME, reason="the table is that of another diffusers")


def _is_thin(name: str, method: str) -> bool:
    return name in families.MORE and method in THIN


def _check(name: str, method: str) -> None:
    assert table.outcome(name, method) == TESTED["pipelines"][name]["cells"][method]


@same_diffusers
@pytest.mark.parametrize(("name", "method"), [cell for cell in CELLS if _is_thin(*cell)])
def test_thin_cell(name: str, method: str) -> None:
    _check(name, method)


@pytest.mark.nightly
@same_diffusers
@pytest.mark.parametrize(("name", "method"), [cell for cell in CELLS if not _is_thin(*cell)])
def test_cell(name: str, method: str) -> None:
    _check(name, method)


@pytest.mark.nightly
def test_every_builder_and_every_method_is_in_the_table() -> None:
    assert set(TESTED["pipelines"]) == set(table.BUILDERS), "run python tests/matrix.py"
    assert all(set(row["cells"]) == set(table.METHODS) for row in TESTED["pipelines"].values())


def test_what_changes_nothing_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    row = table.METHODS["perp_neg"]
    assert row.neutral is not None
    monkeypatch.setitem(table.METHODS, "idle", type(row)(row.neutral, row.neutral, 2))
    with pytest.raises(table.Fault, match="changes nothing"):
        table.outcome("sd15", "idle")


def test_a_crash_is_a_fault_and_not_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    row = table.METHODS["perp_neg"]

    def broken() -> None:
        raise IndexError("out of range")

    monkeypatch.setitem(table.METHODS, "broken", type(row)(broken, None, 2))
    with pytest.raises(table.Fault, match="IndexError: out of range"):
        table.outcome("sd15", "broken")


def test_the_command_prints_every_pipeline_that_takes_a_prompt() -> None:
    printed = json.loads(CliRunner().invoke(app, ["methods", "--families", "--json"]).stdout)
    rows = {row["pipeline"]: row for row in printed["pipelines"]}
    for name in ("StableDiffusionPipeline", "WanPipeline", "StableDiffusionSAGPipeline", "Kandinsky3Pipeline"):
        assert "prompt" in inspect.signature(getattr(diffusers, name).__call__).parameters and name in rows
    assert rows["StableDiffusionPipeline"]["test"] == "sd15"
    assert set(rows["StableDiffusionPipeline"]["cells"].values()) == {"works"}
    assert rows["StableDiffusionSAGPipeline"]["reason"] == rows["StableDiffusionSAGPipeline"]["cells"]["perp_neg"] != ""
    assert (
        printed["counts"]["pipelines"]
        == len(rows)
        == printed["counts"]["refused"] + sum(not row["reason"] for row in rows.values())
    )


def test_the_command_counts_on_how_many_pipelines_each_method_works() -> None:
    printed = json.loads(CliRunner().invoke(app, ["methods", "--families", "--json"]).stdout)
    tried = {row["test"] for row in printed["pipelines"] if row["test"]}
    for method, count in printed["works_on"].items():
        assert count == len([name for name in tried if TESTED["pipelines"][name]["cells"][method] == "works"])
    last = CliRunner().invoke(app, ["methods", "--families"]).stdout.split("| **works on", 1)[1].splitlines()[0]
    assert [int(cell) for cell in last.split("|")[1:-1]] == list(printed["works_on"].values())


@same_diffusers
def test_the_page_is_what_the_command_prints() -> None:
    printed = CliRunner().invoke(app, ["methods", "--families"]).stdout
    assert printed.strip() in PAGE.read_text("utf-8"), "run python tests/matrix.py --page"
