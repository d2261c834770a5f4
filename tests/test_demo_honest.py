"""The demo tells what has no effect, never shows old results beside new settings, and keeps what was there."""

from __future__ import annotations

import dataclasses
import io
import time
from collections.abc import Iterator
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from negguide.demo import board as html
from negguide.demo.engine import Engine
from negguide.demo.handlers import Handlers
from negguide.demo.options import Options
from negguide.demo.page import layout
from negguide.demo.parts import initial
from negguide.demo.pictures import png64
from negguide.demo.remarks import strange_words
from negguide.demo.results import Board, Result, in_json_types
from negguide.demo.settings import make_settings, request_of
from negguide.demo.shown import slide_of, telling
from negguide.experiment.arms import parse_parts

OPTIONS = Options()
MASK = np.zeros((32, 32), np.uint8)
MASK[:, 16:] = 255
PAINTED = png64(Image.fromarray(MASK), 64)
PICTURE = {"png": png64(Image.effect_noise((64, 64), 60).convert("RGB"), 64)}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    made = Engine(OPTIONS)
    yield made
    made.close()


@pytest.fixture(scope="module")
def page(engine: Engine) -> Handlers:
    with gr.Blocks():
        return Handlers(layout(OPTIONS), engine)


def _blank(engine: Engine, **values: Any) -> Board:
    return engine.blank(make_settings({"prompt": "a pet on grass", "count": 2, **values}, OPTIONS))


@pytest.mark.parametrize(
    "name", ["apg", "negtome", "spell", "cads", "interval", "rescale", "cfg_zero_star", "adaptive"]
)
def test_a_negative_that_nobody_takes_is_told(engine: Engine, name: str) -> None:
    (warning,) = _blank(engine, negatives="cat", methods=[name]).results[1].warnings
    assert "'cat' has no effect" in warning and name in warning
    assert not _blank(engine, negatives="", methods=[name]).results[1].warnings


@pytest.mark.parametrize(
    "text", ["negative", "perp_neg", "nag", "vsf", "guard", "apg+perp_neg", "negtome+negative", "plain"]
)
def test_a_negative_that_is_taken_is_not_told(engine: Engine, text: str) -> None:
    methods = [] if text == "plain" else [text]
    assert not any(result.warnings for result in _blank(engine, negatives="cat", methods=methods).results)


def test_a_negative_of_no_weight_is_told(engine: Engine) -> None:
    (warning,) = _blank(engine, negatives="cat:0, hat", methods=["perp_neg"]).results[1].warnings
    assert "'cat' has no effect" in warning and "hat" not in warning


def test_a_mask_changes_an_arm_or_is_told(engine: Engine) -> None:
    for name in engine_methods():
        values = {"negatives": "cat", "methods": [name]}
        try:
            with_mask = make_settings({**values, "mask": PAINTED}, OPTIONS)
        except ValueError:
            continue  # refused in words
        without = make_settings(values, OPTIONS)
        same = request_of(with_mask, OPTIONS)[1].arm == request_of(without, OPTIONS)[1].arm
        warned = any("painted region has no effect" in text for text in engine.blank(with_mask).results[1].warnings)
        assert same == warned, name


def test_a_picture_changes_an_arm_or_is_told(engine: Engine) -> None:
    for name in [*engine_methods(), 'negtome:reference="all"', "perp_neg+negtome"]:
        values = {"negatives": "cat", "methods": [name]}
        with_picture = make_settings({**values, "pictures": [PICTURE]}, OPTIONS)
        without = make_settings(values, OPTIONS)
        same = request_of(with_picture, OPTIONS)[1].arm == request_of(without, OPTIONS)[1].arm
        warned = any(
            "pictures to avoid have no effect" in text for text in engine.blank(with_picture).results[1].warnings
        )
        assert same == warned, name


def engine_methods() -> list[str]:
    from negguide.methods import METHODS

    return [
        name for name in METHODS if name not in ("negative_model", "learned_negative")
    ]  # which need files of the model


def test_words_that_the_toybox_has_never_seen_are_told(engine: Engine) -> None:
    (remark,) = _blank(engine, prompt="a dragon in a castle", negatives="fire, night", methods=["perp_neg"]).remarks
    assert "'dragon', 'fire' are words" in remark and "castle" not in remark and "night" not in remark
    assert not _blank(engine, prompt="Two red cats, wearing a hat, on the left", negatives="a blurry picture").remarks
    assert strange_words("a dragon", "toybox/sd3") == ("dragon",) and strange_words("a dragon", "org/name") == ()


def test_no_method_and_unlike_weights_are_told(engine: Engine) -> None:
    assert "only plain pictures" in _blank(engine, methods=[]).remarks[0]
    (remark,) = _blank(engine, methods=["perp_neg:weight=2", "negative"]).remarks
    assert "perp_neg 2, negative 1" in remark
    assert not _blank(engine, methods=["perp_neg:weight=2", "negative:weight=2", "apg"], negatives="cat").remarks


def test_the_first_screen_compares_at_the_usual_strength() -> None:
    for text in initial(OPTIONS).methods:
        assert all(not part.options for part in parse_parts(text))


def test_remarks_are_on_the_page_and_in_the_api(engine: Engine) -> None:
    board = _blank(engine, prompt="a dragon", negatives="cat", methods=["apg"])
    assert "dragon" in html.status(board) and "takes no negatives" in html.results(board)
    warnings = in_json_types(board.results[1], board)["warnings"]
    assert len(warnings) == 2 and "dragon" in warnings[0] and "takes no negatives" in warnings[1]


def _result(label: str, *values: int, **more: Any) -> Result:
    return Result(label, "", images=tuple(Image.new("RGB", (8, 8), (value,) * 3) for value in values), **more)


def test_the_pair_that_differs_most_is_shown(engine: Engine) -> None:
    blank = _blank(engine, methods=["negtome"], negatives="", count=3)
    plain = _result("plain", 10, 10, 10, shows=(True, False, False))
    for values, place in (((10, 30, 90), 2), ((10, 200, 90), 1), ((0, 10, 10), 0), ((10, 10, 10), 0)):
        guided = _result("negtome", *values, shows=(False, False, True))
        assert telling(dataclasses.replace(blank, results=(plain, guided)), "negtome") == place
    assert slide_of(plain, _result("negtome"), 0) is None  # never plain on both sides


def test_a_run_begins_with_nothing_of_the_one_before(page: Handlers, engine: Engine) -> None:
    updates = page.view.start(_blank(engine, methods=["negative"]))
    p = page.page
    assert updates[p.last] is None and updates[p.plain] == [] and updates[p.guided]["value"] == []
    assert updates[p.python] == updates[p.command] == updates[p.link] == ""
    assert updates[p.slider]["value"] is None and updates[p.slider]["label"] == "plain | negative"


def test_settings_from_a_picture_clear_what_stood_there(page: Handlers, engine: Engine) -> None:
    from negguide.demo.carried import KEY
    from negguide.experiment.sampling import png

    settings = make_settings({"prompt": "a face"}, OPTIONS)
    data = png(Image.new("RGB", (8, 8)), {KEY: settings.model_dump_json()})
    assert Image.open(io.BytesIO(data)).size == (8, 8)
    updates = page.load_png({page.page.load: data})
    p = page.page
    assert (
        updates[p.prompt] == "a face" and updates[p.last] is None and updates[p.python] == "" and updates[p.board] == ""
    )
    assert "Make pictures" in updates[p.status]


def test_stopping_keeps_what_was_there(page: Handlers, engine: Engine) -> None:
    settings = make_settings({"methods": ["negative", "nag"], "count": 1, "steps": 100}, OPTIONS)
    job = engine.submit(settings, "me", "mine")
    while not (job.news.results[0].previews and job.steps > 3):
        time.sleep(0.01)
        assert not job.done
    job.stop()
    while not job.done:
        time.sleep(0.01)
    plain, negative, nag = job.news.results
    assert job.news.state == plain.state == negative.state == nag.state == "stopped"
    assert plain.previews and not plain.error and not nag.error
    card = html.results(job.news)
    assert card.count("<img") == 1 and f"stopped at step {plain.step} of 100" in card and card.count("not begun") == 2
    assert card.count("Stopped after") == 0 and "Stopped after" in html.status(job.news)
    request: Any = type("Request", (), {})()
    assert page.page.slider not in page.view.final(job.news, request)
