"""The custom pipeline folders: up to date, loaded as diffusers loads such folders, with the pixels of `attach`."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from typing import Any

import diffusers
import families
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from standin import standin_folder

import negguide as ng
from negguide.custom import with_negatives

FOLDERS = Path(__file__).parents[1] / "pipelines"
FOLDER = FOLDERS / "negguide_sd"

TINY = {
    "sd": "sd15",
    "sd_img2img": "img2img",
    "sdxl": "sdxl",
    "sdxl_img2img": "sdxl",
    "sdxl_inpaint": "sdxl",
    "sd3": "sd3",
    "flux": "flux",
    "flux2": "klein",
    "qwenimage": "qwen",
    "zimage": "zimage",
    "wan": "wan",
}
"""Folder -> the tiny pipeline whose parts it is built of."""


def load(name: str) -> type:
    """The class in a folder; skipped where diffusers has no such pipeline yet."""
    from lab.pipelines import PIPELINES

    if not hasattr(diffusers, PIPELINES[name][0]):
        pytest.skip(f"this diffusers has no {PIPELINES[name][0]}")
    spec = importlib.util.spec_from_file_location(f"negguide_{name}", FOLDERS / f"negguide_{name}" / "pipeline.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (found,) = [c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__]
    return found


def test_the_folders_are_those_of_the_template() -> None:
    from lab import pipelines

    made = pipelines.files()
    present = {path for path in FOLDERS.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path for path in present if path.parent.name != "modular_sdxl"} == set(made)
    for path, text in made.items():
        assert path.read_text(encoding="utf-8") == text, f"{path} is old; python -m lab.pipelines writes it"
    assert set(TINY) == set(pipelines.PIPELINES)


@pytest.mark.parametrize("name", TINY)
def test_pixels_are_those_of_attach_in_every_folder(name: str) -> None:
    kind, stock_parts = load(name), families.build(TINY[name])
    base = kind.__mro__[1]
    more = {"requires_safety_checker": False} if "requires_safety_checker" in inspect.signature(base).parameters else {}
    more |= {"is_distilled": False} if name == "flux2" else {}
    wanted = inspect.signature(base.__init__).parameters
    parts = {key: part for key, part in stock_parts.components.items() if key in wanted}
    custom, stock = kind(**parts, **more), base(**parts, **more)
    for pipe in (custom, stock):
        pipe.set_progress_bar_config(disable=True)
        for key, value in vars(stock_parts).items():
            if isinstance(value, int | str):
                setattr(pipe, key, value)  # what the builder fits to its tiny tokenizer
    call = families.arguments(TINY[name], steps=2)
    if name.endswith(("img2img", "inpaint")):
        call |= {"image": families.picture(), "strength": 0.9}
        call |= {"mask_image": families.region()} if name.endswith("inpaint") else {}
        call = {key: value for key, value in call.items() if key in inspect.signature(base.__call__).parameters}

    def run(pipe: Any, **given: Any) -> torch.Tensor:
        output = pipe(**{**call, "generator": torch.Generator().manual_seed(0), "output_type": "latent"}, **given)
        return output.frames if hasattr(output, "frames") else output.images

    plain = run(stock)
    assert torch.equal(run(custom), plain)
    with ng.attach(stock, ng.NAG(["cat", ("one red apple", 0.5)], scale=4.0)):
        expected = run(stock)
    found = run(custom, negatives=["cat", ("one red apple", 0.5)], method="nag", scale=4.0)
    assert torch.equal(found, expected) and not torch.equal(found, plain)


@pytest.fixture(scope="module")
def custom() -> Any:
    pipe = DiffusionPipeline.from_pretrained(standin_folder(), custom_pipeline=str(FOLDER), trust_remote_code=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def stock() -> Any:
    pipe = DiffusionPipeline.from_pretrained(standin_folder())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _call(pipe: Any, *args: Any, **more: Any) -> np.ndarray:
    generator = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    call = {"num_inference_steps": 3, "num_images_per_prompt": 2, "generator": generator, "output_type": "np"}
    return pipe(*(args or ("a cat on grass",)), **call, **more).images


def test_it_is_a_stable_diffusion_pipeline_with_more_arguments(custom: Any) -> None:
    assert isinstance(custom, StableDiffusionPipeline)
    own = set(inspect.signature(custom.__call__).parameters)
    ours = own - set(inspect.signature(StableDiffusionPipeline.__call__).parameters)
    assert {"negatives", "method", "scale", "tau", "alpha", "unconditional"} <= ours
    assert "negatives: what is not wanted" in inspect.getdoc(type(custom).__call__)


def test_without_negatives_it_is_the_stock_pipeline(custom: Any, stock: Any) -> None:
    assert np.array_equal(_call(custom), _call(stock))
    assert np.array_equal(_call(custom, negative_prompt="hat"), _call(stock, negative_prompt="hat"))


@pytest.mark.parametrize("name", ["perp_neg", "signed", "negative", "recommended"])
def test_pixels_are_those_of_attach(custom: Any, stock: Any, name: str) -> None:
    plain = _call(stock)
    with ng.attach(stock, ng.get_method(name)(["hat", ("scarf", 0.5)])):
        expected = _call(stock)
    found = _call(custom, negatives=["hat", ("scarf", 0.5)], method=name)
    assert np.array_equal(found, expected)
    assert not np.array_equal(found, plain)


def test_perp_neg_is_the_default_and_methods_may_be_given(custom: Any) -> None:
    expected = _call(custom, negatives="hat", method="perp_neg")
    assert np.array_equal(_call(custom, negatives="hat"), expected)
    assert np.array_equal(_call(custom, method=ng.PerpNeg("hat")), expected)
    assert np.array_equal(_call(custom, method=[ng.PerpNeg("hat"), ng.APG(eta=1, momentum=0)]), expected)


def test_it_is_left_as_it_was(custom: Any) -> None:
    before, cls = _call(custom), type(custom)
    _call(custom, negatives="hat")
    with pytest.raises(ValueError, match="prompt"):
        custom(5, negatives="hat")
    assert type(custom) is cls
    assert np.array_equal(_call(custom), before)


def test_it_is_saved_and_made_from_other_pipelines(custom: Any, stock: Any, tmp_path: Path) -> None:
    expected = _call(custom, negatives="hat")
    custom.save_pretrained(tmp_path)
    again = DiffusionPipeline.from_pretrained(tmp_path, custom_pipeline=str(FOLDER), trust_remote_code=True)
    again.set_progress_bar_config(disable=True)
    assert np.array_equal(_call(again, negatives="hat"), expected)
    made = type(custom).from_pipe(stock)
    made.set_progress_bar_config(disable=True)
    assert np.array_equal(_call(made, negatives="hat"), expected)
    back = StableDiffusionPipeline.from_pipe(custom)
    back.set_progress_bar_config(disable=True)
    assert np.array_equal(_call(back), _call(stock))


def test_a_folder_of_the_hub(custom: Any, tmp_path: Path) -> None:
    """A model with its pipeline.py beside it, as a repository holds both."""
    custom.save_pretrained(tmp_path)
    (tmp_path / "pipeline.py").write_text((FOLDER / "pipeline.py").read_text())
    pipe = DiffusionPipeline.from_pretrained(tmp_path, custom_pipeline=str(tmp_path), trust_remote_code=True)
    pipe.set_progress_bar_config(disable=True)
    assert np.array_equal(_call(pipe, negatives="hat"), _call(custom, negatives="hat"))


def test_any_pipeline_becomes_one(stock: Any, custom: Any) -> None:
    any_other = with_negatives(stock)
    any_other.set_progress_bar_config(disable=True)
    assert isinstance(any_other, StableDiffusionPipeline) and type(any_other) is not type(stock)
    assert np.array_equal(
        _call(any_other, negatives="hat", method="nag", scale=5), _call(custom, method=ng.NAG("hat", scale=5))
    )
    assert np.array_equal(_call(any_other), _call(stock))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"method": "perp_neg"}, ValueError, "needs negatives"),
        ({"scale": 3}, ValueError, "scale= needs negatives"),
        ({"negatives": "hat", "method": "perpneg"}, ValueError, "did you mean 'perp_neg'"),
        ({"negatives": "hat", "method": "perp_neg", "alpha": 0.5}, TypeError, "perp_neg has no option 'alpha'; it has"),
        ({"negatives": "hat", "method": ng.PerpNeg("cat")}, ValueError, "bring their own"),
        ({"method": 3}, TypeError, "possible: a name"),
        ({"negatives": ["", "hat"]}, ValueError, "empty text"),
    ],
)
def test_wrong_arguments_are_explained(custom: Any, given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _call(custom, **given)
