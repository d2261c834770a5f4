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


def test_a_family_of_another_package_is_known(tmp_path):
    answer = _run(
        "from diffusers import DiffusionPipeline, StableDiffusionPipeline\n"
        "from negguide.pipeline.families import family_of, rules_of, supported, tapped\n"
        "class LoomPipeline(DiffusionPipeline): pass\n"
        "class LoomingPipeline(DiffusionPipeline): pass\n"
        "class LoomImg2ImgPipeline(StableDiffusionPipeline): pass\n"
        "print(family_of(LoomPipeline).name, family_of(LoomingPipeline).name, family_of(LoomImg2ImgPipeline).name)\n"
        "print([rule.kind for rule in rules_of('LoomTransformer')], supported().startswith('Loom, '), 'Loom' in tapped())\n",
        THEIRS,
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines() == ["Loom generic Stable Diffusion 1/2", "['cross'] True True"]


def test_a_metric_of_another_package_is_measured_and_in_the_table(tmp_path):
    from PIL import Image

    for name, grey in (("a", 0), ("b", 51)):
        Image.new("L", (4, 4), grey).save(tmp_path / f"{name}.png")
    answer = _run(
        "from negguide.cli import main\n"
        f"raise SystemExit(main(['measure', {str(tmp_path)!r}, '--prompt', 'a pet', '--with', 'brightness']))\n",
        THEIRS,
    )
    assert answer.returncode == 0, answer.stderr
    assert "brightness" in answer.stdout and "0.10" in answer.stdout  # the mean of 0 and 51/255
    assert "brightness" in (tmp_path / "summary.md").read_text()


def test_names_and_columns_of_metrics_are_their_own():
    from negguide.metrics.column import Column
    from negguide.metrics.registry import Metric, metrics, register_metric

    column = Column("lpips", "mine", "{}", "", "")
    assert list(metrics())[:3] == ["dino", "dreamsim", "lpips"]
    for metric, message in (
        (Metric("", (), lambda option: ("", dict)), "cannot be called"),
        (Metric("a=b", (), lambda option: ("", dict)), "cannot be called"),
        (Metric("lpips", (), lambda option: ("", dict)), "another metric is called"),
        (Metric("mine", (column,), lambda option: ("", dict)), "belongs to the metric 'lpips'"),
    ):
        with pytest.raises(ValueError, match=message):
            register_metric(metric)
