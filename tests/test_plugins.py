from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from negguide.names import Bundle, Sampling, bundled_model, bundled_names, find_bundle, register_bundle

THEIRS = Path(__file__).parent / "theirs"


def _bundle(name: str) -> Bundle:
    return Bundle(name, {"one": Sampling(3, 1.0)}, Path, lambda pipeline, dtype: None, lambda pipeline: ["pipe = ..."])


def test_the_toybox_is_known_by_its_names():
    assert bundled_names()[:3] == ["toybox", "toybox/sd3", "toybox/few-step"]
    model = bundled_model("toybox")
    assert model is not None
    assert (model.pipeline, model.sampling.steps, model.folder.name) == ("sd", 25, "sd")


def test_a_folder_or_a_model_of_the_hub_is_no_bundled_model():
    assert bundled_model("org/name") is None
    assert bundled_model("./folder") is None
    assert find_bundle("ViT-B-32/laion") is None


def test_an_unknown_pipeline_of_a_bundle_names_those_there_are():
    with pytest.raises(ValueError, match="toybox/few-step"):
        bundled_model("toybox/xl")


@pytest.mark.parametrize("name", ["", "a/b", "vqa:x"])
def test_a_bundle_needs_a_plain_word(name):
    with pytest.raises(ValueError, match="cannot be called"):
        register_bundle(_bundle(name))


def test_two_bundles_cannot_have_one_name():
    find_bundle("toybox")
    with pytest.raises(ValueError, match="another bundle"):
        register_bundle(_bundle("toybox"))


def _run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).resolve().parents[1]
    script = f"import sys; sys.path[:0] = [{str(folder)!r}, {str(root)!r}]\n{code}"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)


def test_another_package_brings_a_bundle_and_a_watcher_by_its_entry_point():
    """`tests/theirs` is laid out as an installed package is: the package, and its metadata with the entry point."""
    answer = _run(
        "from negguide.names import bundled_names, bundled_model\n"
        "print(bundled_names()[-1], bundled_model('tiny-world').sampling.steps)\n"
        "from negguide.watchers import as_watcher\n"
        "print(as_watcher('always-cat')([None], ['what is it?']))\n",
        THEIRS,
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines()[0] == "tiny-world 7"
    assert "cat" in answer.stdout.splitlines()[1]


def test_a_method_of_another_package_is_known_everywhere():
    answer = _run(
        "import negguide as ng\n"
        "from negguide.cli import main\n"
        "print(ng.from_dict({'method': 'half_guidance'}) == ng.HalfGuidance(0.5))\n"
        "from negguide.experiment.arms import parse_arms\n"
        "print(parse_arms('half_guidance:share=0.25')[0].build(())[0].share)\n"
        "main(['methods'])\n",
        THEIRS,
    )
    assert answer.returncode == 0, answer.stderr
    lines = answer.stdout.splitlines()
    assert lines[:2] == ["True", "0.25"]
    assert "half_guidance" in answer.stdout


def test_a_new_file_in_methods_is_all_that_a_method_needs(tmp_path):
    """The package is copied and one file is added to it; nothing else is edited."""
    root = Path(__file__).resolve().parents[1]
    shutil.copytree(root / "negguide", tmp_path / "negguide", ignore=shutil.ignore_patterns("__pycache__"))
    source = (THEIRS / "theirs" / "plugin.py").read_text()
    body = source[source.index("@dataclasses.dataclass") : source.index("def _no_model")]
    (tmp_path / "negguide" / "methods" / "half_guidance.py").write_text(
        "from __future__ import annotations\nimport dataclasses\nfrom typing import Any, ClassVar\n"
        "from negguide.methods.base import Guidance, Method\nfrom negguide.methods.registry import register\n\n@register\n"
        + body
    )
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nimport negguide as ng\n"
        "assert ng.__file__.startswith(sys.path[0])\nprint(ng.HalfGuidance().share, ng.get_method('half_guidance').summary)\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert answer.stdout.split()[:1] == ["0.5"], answer.stderr


def test_a_plug_in_that_fails_is_told_and_the_rest_works(tmp_path):
    metadata = tmp_path / "broken-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[negguide.plugins]\nbroken = broken_plugin:register\n")
    (tmp_path / "broken_plugin.py").write_text("raise RuntimeError('no such thing')\n")
    answer = _run("from negguide.names import bundled_model\nprint(bundled_model('toybox').pipeline)\n", tmp_path)
    assert answer.stdout.strip() == "sd"
    assert "plug-in 'broken'" in answer.stderr
    assert "no such thing" in answer.stderr
