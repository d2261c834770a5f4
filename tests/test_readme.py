"""README.md: its snippets run as they stand, and what it lists is what the code knows."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import diffusers
import families
import pytest
import torch

from negguide.methods import METHODS
from negguide.pipeline import intercept
from negguide.pipeline.families import FAMILIES, TAPPED, family_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
SHELL = [
    line.split("  #")[0].strip() for line in re.findall(r"^    ((?:negguide|make|python) .*)$", README, re.MULTILINE)
]
SHELL += re.findall(r"`((?:negguide|make|python) [^`]+)`", README)


class Quick(diffusers.StableDiffusionXLPipeline):
    """SDXL for which a call that says nothing about it is short and small."""

    def __call__(self, *args: Any, **given: Any) -> Any:  # type: ignore[override]
        usual = {"num_inference_steps": 3, "height": 32, "width": 32, "output_type": "latent"}
        return super().__call__(*args, **{**usual, **given})


def listed(sentence: str) -> set[str]:
    """The names between a sentence's beginning and its end."""
    match = re.search(re.escape(sentence) + r"\s*(.*?)\.(?=\s+[A-Z]|\n\n)", README, re.DOTALL)
    assert match, sentence
    return set(re.sub(r"\s+", " ", match[1]).split(", "))


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_snippets_run_as_they_stand(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Quick(**families.build("sdxl").components)
    pipe.set_progress_bar_config(disable=True)
    monkeypatch.setattr(diffusers.DiffusionPipeline, "from_pretrained", lambda *args, **kwargs: pipe)

    def run() -> torch.Tensor:
        return pipe("a pet", generator=torch.Generator().manual_seed(0)).images

    plain = run()
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    pictures = names["images"] if "images" in names else names["image"]
    assert pictures.isfinite().all()
    assert not intercept.is_intercepted(pipe) and torch.equal(run(), plain)


def test_families_are_those_of_the_code() -> None:
    assert listed("Families known by name:") == {family.name for family in FAMILIES if family.pipelines}
    assert listed("(`NAG`, `VSF`, `NegToMe`) know the layers of:") == set(TAPPED.split(", "))


def test_families_that_no_test_runs_are_told() -> None:
    run = set()
    for name in families.FAMILIES | families.MORE:
        if hasattr(diffusers, families.NEWER.get(name, "DiffusionPipeline")):
            run.add(family_of(type(families.build(name))).name)
        else:
            pytest.skip(f"this diffusers has no {families.NEWER[name]}")
    known = {family.name for family in FAMILIES if family.pipelines}
    told = re.search(r"Of these, (.*?) are not run by the tests", README, re.DOTALL)
    assert told and set(re.sub(r"\s+", " ", told[1]).split(", ")) == known - run


def test_every_method_is_in_the_table() -> None:
    table = README[README.index("## Methods") : README.index("## Negatives")]
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
    assert len(SHELL) > 20
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
    assert set(re.findall(r'"\.\[(\w+)\]"', README)) == extras - {"test", "dev"}


def test_links_and_folders_exist() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links and not [link for link in links if not (ROOT / link.partition("#")[0]).exists()]
    folders = README[README.index("| folder | holds |") :]
    named = [
        name for row in re.findall(r"^\| (`.*?) \|", folders, re.MULTILINE) for name in re.findall(r"`([\w/]+)`", row)
    ]
    assert len(named) >= 10
    assert not [name for name in named if not (ROOT / name).is_dir() and not (ROOT / "negguide" / name).is_dir()]
