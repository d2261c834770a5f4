"""README.md and the pages that list what the code knows: lists, commands, extras and links are right."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import diffusers
import families
import pytest

from negguide.methods import METHODS
from negguide.pipeline.families import FAMILIES, family_of, tapped

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MODELS = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
METHODS_PAGE = (ROOT / "docs" / "methods" / "index.md").read_text(encoding="utf-8")
SHELL = [
    line.split("  #")[0].strip() for line in re.findall(r"^    ((?:negguide|make|python) .*)$", README, re.MULTILINE)
]
SHELL += re.findall(r"`((?:negguide|make|python) [^`]+)`", README)


def listed(sentence: str) -> set[str]:
    """The names between a sentence's beginning and its end."""
    match = re.search(re.escape(sentence) + r"\s*(.*?)\.(?=\s+[A-Z]|\n\n)", MODELS, re.DOTALL)
    assert match, sentence
    return set(re.sub(r"\s+", " ", match[1]).split(", "))


def test_families_are_those_of_the_code() -> None:
    assert listed("Families known by name:") == {family.name for family in FAMILIES if family.pipelines}
    assert listed("(`NAG`, `VSF`, `NegToMe`) know the layers of:") == set(tapped().split(", "))


def test_families_that_no_test_runs_are_told() -> None:
    run = set()
    for name in families.FAMILIES | families.MORE:
        if hasattr(diffusers, families.NEWER.get(name, "DiffusionPipeline")):
            run.add(family_of(type(families.build(name))).name)
        else:
            pytest.skip(f"this diffusers has no {families.NEWER[name]}")
    known = {family.name for family in FAMILIES if family.pipelines}
    told = re.search(r"Of these, (.*?) are not run by the tests", MODELS, re.DOTALL)
    assert told and set(re.sub(r"\s+", " ", told[1]).split(", ")) == known - run


def test_every_method_is_in_the_table() -> None:
    table = METHODS_PAGE[METHODS_PAGE.index("## All methods") :]
    missing = {entry.method.__name__ for entry in METHODS.values()} - set(re.findall(r"\w+", table))
    assert not missing
    unknown = set(re.findall(r"\(`(\w+)`", table)) - set(METHODS)
    assert not unknown


def test_commands_and_targets_exist() -> None:
    typer = pytest.importorskip("typer")
    from negguide.cli import app

    tree = typer.main.get_command(app)
    context = tree.make_context("negguide", [], resilient_parsing=True)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert len(SHELL) >= 8
    for line in SHELL:
        program, *words = shlex.split(line.replace("&& make ", ""))
        if program == "make":
            assert set(words) <= targets, line
        elif program == "python":
            assert words[0] == "-m" or (ROOT / words[0]).is_file(), line
        else:
            command = tree
            while words and hasattr(command, "get_command") and command.get_command(context, words[0]):
                command = command.get_command(context, words.pop(0))
            assert command is not tree, line
            options = {
                text
                for parameter in command.get_params(context)
                for text in (*parameter.opts, *parameter.secondary_opts)
            }
            assert {word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word)} <= options, line


def test_extras_are_those_of_the_package() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = set(tomllib.load(file)["project"]["optional-dependencies"])
    assert set(re.findall(r'"\.\[(\w+)\]"', README)) == extras - {"test", "s3-test", "dev"}


def test_links_exist() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links and not [link for link in links if not (ROOT / link.partition("#")[0]).exists()]
