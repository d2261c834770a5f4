"""The demo: runs of a session that can be chosen again, all pictures as a zip, limits that hold for a model's own steps."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("gradio")

import gradio as gr
from demo_server import FIRST

from negguide.demo.engine import Engine, asked_of
from negguide.demo.handlers import Handlers
from negguide.demo.history import REMEMBERED, choices, with_run
from negguide.demo.options import Options
from negguide.demo.page import layout
from negguide.demo.settings import Settings, make_settings

OPTIONS = Options(first=FIRST, steps=3)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    made = Engine(OPTIONS)
    yield made
    made.close()


@pytest.fixture(scope="module")
def page(engine: Engine) -> Handlers:
    with gr.Blocks():
        return Handlers(layout(OPTIONS), engine)


def _made(engine: Engine, **values: Any) -> Settings:
    settings = make_settings({**FIRST, "methods": ["negative"], **values}, OPTIONS)
    job = engine.submit(settings, "me", "mine")
    until = time.monotonic() + 120
    while not job.done and time.monotonic() < until:
        time.sleep(0.02)
    assert job.error is None and job.news.state == "done", job.news.message
    return settings


def test_runs_are_kept_once_each_the_latest_first() -> None:
    runs: list[Settings] = []
    for seed in (*range(REMEMBERED + 3), 7):
        runs = with_run(runs, Settings(seed=seed))
    newest = REMEMBERED + 2
    assert [one.seed for one in runs] == [7, *(seed for seed in range(newest, 2, -1) if seed != 7)]
    assert len(choices(runs)) == REMEMBERED and "seed 7" in choices(runs)[0][0] and choices(runs)[5][1] == 5


def test_the_zip_holds_every_picture_and_the_numbers(engine: Engine) -> None:
    board = engine.known(_made(engine))
    assert board is not None
    with zipfile.ZipFile(board.archive) as packed:
        names = set(packed.namelist())
        assert names == {
            "numbers.json",
            *(f"{at}-{one}/{one}-{seed}.png" for at, one in ((0, "plain"), (1, "negative")) for seed in (0, 1)),
        }
        for result in board.results:
            for file in result.files:
                (name,) = [one for one in names if one.endswith("/" + Path(file).name)]
                assert packed.read(name) == Path(file).read_bytes()
        assert json.loads(packed.read("numbers.json"))["negative"]["scores"]["passes"] == 2 * FIRST["steps"]


def test_an_earlier_run_comes_back_with_its_settings_and_pictures(page: Handlers, engine: Engine) -> None:
    fields, runs = page.page, [_made(engine, seed=5), _made(engine, seed=6), Settings(seed=9)]
    request: Any = SimpleNamespace()
    found = page.recall({fields.history: 1, fields.runs: runs}, request)
    assert (
        found[fields.seed] == 6
        and found[fields.last].settings.seed == 6
        and found[fields.save]["value"].endswith("-6.zip")
    )
    gone = page.recall({fields.history: 2, fields.runs: runs}, request)
    assert gone[fields.seed] == 9 and gone[fields.last] is None and "again" in gone[fields.status]
    assert page.recall({fields.history: 3, fields.runs: runs}, request) == {}


def test_the_limit_of_steps_holds_for_the_models_own() -> None:
    own = make_settings({"steps": None}, OPTIONS)
    assert [one.request.steps for one in asked_of(own, OPTIONS)] == [3, 3]
    assert [one.request.steps for one in asked_of(own, Options())] == [25, 25]


def test_fewer_steps_than_the_models_own_are_told(engine: Engine) -> None:
    assert "meant for 25 steps; 3 are made" in " ".join(engine.blank(make_settings({}, OPTIONS)).remarks)
    assert not engine.blank(make_settings({"steps": 2}, OPTIONS)).remarks
