from __future__ import annotations

import io
import json
import warnings

import numpy as np
import pytest
from PIL import Image

from negguide.compare import Request, compare, parse_arms
from negguide.demo.carried import from_png
from negguide.demo.engine import asked_of
from negguide.demo.options import Options
from negguide.experiment.metadata import PictureMetadata
from negguide.experiment.models import load_model
from negguide.experiment.sampling import make
from negguide.experiment.tasks import make_tasks


@pytest.fixture(scope="module")
def model():
    return load_model("toybox/few-step")


@pytest.mark.parametrize("label", ["plain", "nag:scale=2", "nag+cads:scale=0.1"])
def test_a_picture_of_compare_dropped_into_the_demo_is_made_again_to_the_pixel(label, model, tmp_path):
    request = Request(
        make_tasks(["a pet on grass"], ["cat:0.5"]), parse_arms(label), (3, 4), tmp_path, 3, 1.5, size=(64, 64)
    )
    results = compare(model, request)
    picture = results.comparisons[0].rows[0].pictures[1]
    data = (tmp_path / picture.file).read_bytes()

    settings = from_png(data, Options(model="toybox/few-step"))
    assert (settings.steps, settings.guidance, settings.size) == (3, 1.5, "64x64")
    assert settings.negatives == "cat:0.5"
    asked = asked_of(settings, Options(model="toybox/few-step"))[-1]
    task = asked.request.tasks[0]
    again = make(model, asked.request, task.prompt, asked.arm.build(task.negatives), asked.request.seeds)
    image = again.images[asked.request.seeds.index(picture.seed)]
    assert np.array_equal(np.asarray(image), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def _metadata(**changes):
    values = {
        "prompt": "a pet",
        "negatives": ("cat:0.8",),
        "methods": ({"method": "perp_neg"},),
        "seed": 4,
        "group": (3, 4),
        "model": "toybox",
        "settings": {"steps": 7, "guidance_scale": None, "size": [64, 32], "takeover": False, "dtype": "float32"},
        "passes": 21.0,
    }
    return PictureMetadata(**{**values, **changes})


def test_metadata_survive_the_texts_of_a_png():
    assert PictureMetadata.read(_metadata().texts(key="abc")) == _metadata()


def test_a_png_of_another_program_holds_no_metadata():
    assert PictureMetadata.read({"parameters": "a cat"}) is None


@pytest.mark.parametrize(
    "key, text", [("methods", "{"), ("seed", "x"), ("group", "7"), ("settings", "[1]"), ("methods", "[1]")]
)
def test_damaged_metadata_are_told(key, text):
    with pytest.raises(ValueError, match="damaged"):
        PictureMetadata.read({**_metadata().texts(), key: text})


def test_a_newer_format_is_read_with_a_warning():
    texts = {**_metadata().texts(), "format": "2", "colour_of_the_sky": "blue"}
    with pytest.warns(UserWarning, match="newer negguide"):
        assert PictureMetadata.read(texts) == _metadata()


def test_pictures_of_the_first_version_are_read():
    texts = {key: value for key, value in _metadata().texts().items() if key not in ("format", "group", "settings")}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        old = PictureMetadata.read(texts)
    assert old is not None
    assert (old.group, old.settings) == ((4,), {})
    assert json.loads(texts["methods"]) == [{"method": "perp_neg"}]
