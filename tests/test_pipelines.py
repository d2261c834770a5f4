"""The custom pipeline folder: loads as diffusers loads such folders, and makes the pixels of `attach`."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from standin import standin_folder

import negguide as ng

FOLDER = Path(__file__).parents[1] / "pipelines" / "negguide_sd"


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


def test_it_is_a_stable_diffusion_pipeline_with_two_more_arguments(custom: Any) -> None:
    assert isinstance(custom, StableDiffusionPipeline)
    own = set(inspect.signature(custom.__call__).parameters)
    assert own - set(inspect.signature(StableDiffusionPipeline.__call__).parameters) == {"negatives", "method"}


def test_without_negatives_it_is_the_stock_pipeline(custom: Any, stock: Any) -> None:
    assert np.array_equal(_call(custom), _call(stock))
    assert np.array_equal(_call(custom, negative_prompt="hat"), _call(stock, negative_prompt="hat"))


@pytest.mark.parametrize("name", ["perp_neg", "signed", "negative"])
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


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"method": "perp_neg"}, ValueError, "needs negatives"),
        ({"negatives": "hat", "method": "perpneg"}, ValueError, "did you mean 'perp_neg'"),
        ({"negatives": "hat", "method": ng.PerpNeg("cat")}, ValueError, "bring their own"),
        ({"method": 3}, TypeError, "possible: a name"),
        ({"negatives": ["", "hat"]}, ValueError, "empty text"),
    ],
)
def test_wrong_arguments_are_explained(custom: Any, given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _call(custom, **given)
