"""The package as it is installed: what importing costs, what the wheel holds, that it works outside the checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import negguide

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
HEAVY = ("diffusers", "gradio", "matplotlib", "open_clip", "torch", "transformers")


def _python(code: str, cwd: Path, path: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("module", ["negguide", "negguide.cli"])
def test_importing_is_cheap(module: str, tmp_path: Path) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    assert _python(code, tmp_path, ROOT).strip() == "[]"


def test_methods_need_torch_only(tmp_path: Path) -> None:
    code = f"import sys, negguide; negguide.PerpNeg; print([name for name in {HEAVY!r} if name in sys.modules])"
    assert _python(code, tmp_path, ROOT).strip() in ("[]", "['torch']")


def test_every_exported_name_is_there() -> None:
    assert [name for name in negguide.__all__ if getattr(negguide, name, None) is None] == []
    assert set(negguide.__all__) <= set(dir(negguide))
    with pytest.raises(AttributeError, match="'Perpneg'; did you mean 'PerpNeg'"):
        negguide.Perpneg  # noqa: B018


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


def test_wheel_holds_what_is_needed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert wheel.name == f"negguide-{negguide.__version__}-py3-none-any.whl"
    assert "negguide/py.typed" in names
    assert "negguide/pipelines/negguide_sd/pipeline.py" in names
    assert "negguide/compare/templates/report.html.jinja" in names
    assert {f"negguide/experiment/templates/report.{kind}" for kind in ("css", "js")} <= names
    assets = {f"negguide/{file.relative_to(ROOT)}" for file in (ROOT / "assets").rglob("*") if file.is_file()}
    assert assets and assets <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "comfyui/", ".train"))]


def test_every_link_of_the_readme_is_whole_on_an_index(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"negguide-{negguide.__version__}.dist-info/METADATA").decode()
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) > 10 and all(link.startswith("https://") for link in links)
    assert any(link.endswith("/main/docs/compare.png") for link in links)
    assert "Project-URL: Homepage, https://" in text and "the negguide authors" in text


def test_wheel_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    code = (
        "import negguide, negguide.cli; from negguide.toybox.load import assets_dir;"
        "print(negguide.__file__); print(assets_dir()); negguide.cli.main(['methods'])"
    )
    lines = _python(code, tmp_path, site).splitlines()
    assert Path(lines[0]) == site / "negguide" / "__init__.py"
    assert Path(lines[1]) == site / "negguide" / "assets"
    assert any(line.startswith("perp_neg") for line in lines)


def _locked() -> list[Requirement]:
    lines = (ROOT / "requirements" / "locked.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.lstrip().startswith("#")]


def test_every_dependency_is_locked_to_one_version_for_each_python() -> None:
    """So that no release of another project can change what a fresh clone installs."""
    locked = _locked()
    assert all(len(pin.specifier) == 1 and str(pin.specifier).startswith("==") for pin in locked)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *(text for extra in project["optional-dependencies"].values() for text in extra)]
    wanted = [Requirement(text) for text in texts if not text.startswith("negguide")]
    assert len(wanted) > 20
    for python in ("3.10", "3.11", "3.12", "3.13"):
        environment = {"python_version": python, "python_full_version": f"{python}.1", "sys_platform": "linux"}
        pins = {pin.name: pin for pin in locked if pin.marker is None or pin.marker.evaluate(environment)}
        for need in wanted:
            if need.marker is not None and not need.marker.evaluate({**environment, "extra": ""}):
                continue
            pin = pins[re.sub(r"[-_.]+", "-", need.name).lower()]
            assert need.specifier.contains(str(pin.specifier).removeprefix("==")), (python, str(need), str(pin))


def test_what_is_committed_names_no_package_index() -> None:
    for file in (ROOT / "requirements").iterdir():
        assert not re.search(r"://|--(extra-)?index|--find-links", file.read_text()), file.name
