"""Files that a forge reads: the workflow, the forms of issues, the citation."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import negguide

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[1]
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "comfyui" / "README.md"])

pytestmark = pytest.mark.skipif(not (ROOT / ".github").is_dir(), reason="a source package holds no .github")


def load(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def project() -> dict:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)["project"]


def test_the_workflow_runs_targets_that_exist_on_every_python_that_is_promised() -> None:
    jobs = load(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]
    promised = {text.rpartition(" ")[2] for text in project()["classifiers"] if re.search(r"Python :: 3\.\d+$", text)}
    assert set(jobs["fast"]["strategy"]["matrix"]["python"]) == promised
    commands = [step["run"].split() for job in jobs.values() for step in job["steps"] if "run" in step]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert (
        {command[1] for command in commands} == {"lint", "test", "test-fast", "test-oldest", "test-latest"} <= targets
    )
    assert all(command[0] == "make" for command in commands)
    assert jobs["oldest"]["steps"][1]["with"]["python-version"] == min(promised, key=lambda v: int(v.split(".")[1]))


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_forms_of_issues(path: Path) -> None:
    form = load(path)
    assert form["name"] and form["description"]
    fields = form["body"]
    assert any(field.get("validations", {}).get("required") for field in fields)
    assert len({field["id"] for field in fields}) == len(fields)
    for field in fields:
        assert field["type"] in ("textarea", "input", "checkboxes") and field["attributes"]["label"]


def test_the_citation_is_of_this_version() -> None:
    citation = load(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert str(citation["version"]) == negguide.__version__
    assert citation["license"] == project()["license"] and citation["repository-code"] == project()["urls"]["Homepage"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_the_pages_exist(page: Path) -> None:
    links = re.findall(r"\]\(([^):]+)\)", page.read_text(encoding="utf-8"))
    assert not [link for link in links if not (page.parent / (link.partition("#")[0] or ".")).exists()]
