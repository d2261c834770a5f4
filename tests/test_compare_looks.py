"""`compare` with a watcher: every look is recorded with what the watcher was shown, and stands in the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from standin import make_standin

from negguide.compare import Request, Results, compare, parse_arms
from negguide.compare.report import render
from negguide.experiment.models import Model
from negguide.experiment.tasks import make_tasks
from negguide.watchers import register_watcher

SEEDS = (3, 8, 5)
SHOWN: list[list[np.ndarray]] = []


def _watcher(images: Any, questions: Any) -> Any:
    """Names a new thing at each look for the first picture of a call, and nothing for the others; fails once."""
    SHOWN.append([np.asarray(image) for image in images])
    if len(SHOWN) == 2:
        raise RuntimeError("asleep <b>")
    return [[[(f"thing{len(SHOWN)}", 0.75)] if not place else [""]] for place in range(len(images))]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Results]:
    out = tmp_path_factory.mktemp("looks")
    register_watcher("of_these_tests", _watcher)
    SHOWN.clear()
    tasks = make_tasks(["a pet on grass"], ["cat"])
    request = Request(
        tasks=tasks,
        arms=parse_arms("plain,adaptive:watcher=of_these_tests:looks=3"),
        seeds=SEEDS,
        steps=12,
        batch=2,
        out=out,
    )
    with pytest.warns(UserWarning, match="asleep"):
        return out, compare(Model("stand-in", make_standin()), request)


def test_every_look_is_recorded_with_what_was_shown(made: tuple[Path, Results]) -> None:
    out, results = made
    plain, row = results.comparisons[0].rows
    assert not plain.looks and plain.error is None
    assert [look.seeds for look in row.looks] == [[3, 8]] * 3 + [[5]] * 3
    assert len(SHOWN) == len(row.looks) == 6
    for pictures, look in zip(SHOWN, row.looks, strict=True):
        assert look.acts_from == look.step + 1 and look.of == 12
        for picture, glance in zip(pictures, look.glances, strict=True):
            with Image.open(out / str(glance.preview)) as kept:
                assert np.array_equal(np.asarray(kept), picture)
    first, lost, third = row.looks[:3]
    assert lost.error == "RuntimeError: asleep <b>" and not lost.glances[0].asked
    assert row.error == "adaptive lost 1 of its 3 looks (RuntimeError: asleep <b>)" and not row.scores
    assert results.errors == [f"adaptive:watcher=of_these_tests:looks=3 on 'a pet on grass': {row.error}"]
    assert list(results.totals["plain"]) and not results.totals[row.label], "no mean counts what is not the method's"
    lost_ones = []
    for picture in row.pictures:
        with Image.open(out / picture.file) as kept:
            lost_ones.append(kept.info.get("lost"))
    assert lost_ones == [row.error, row.error, None], "the second call lost nothing"
    assert first.glances[0].asked == ["What kind of pet is it?"]
    assert first.glances[0].answered == [[{"text": "thing1", "confidence": 0.75}]]
    assert [glance.negatives for glance in third.glances] == [["thing1", "thing3"], []]
    assert row.methods[0]["watcher"] == "of_these_tests", "the recorded method is what was asked for"
    assert Results.load(out) == results
    assert json.loads((out / "results.json").read_text())["comparisons"][0]["rows"][1]["looks"][0]["step"] == first.step


def test_the_report_tells_them_in_order(made: tuple[Path, Results]) -> None:
    out, results = made
    page = render(out, results)
    assert page.count('<ol class="timeline') == len(SEEDS)
    assert page.count("data:image/png") >= 6 + 9
    at = [page.index(text) for text in ("+ thing1", '"failed">RuntimeError: asleep &lt;b&gt;', "+ thing3", "+ thing4")]
    assert at == sorted(at)
    assert "adaptive lost 1 of its 3 looks (RuntimeError: asleep &lt;b&gt;)" in page
    assert "asleep <b>" not in page and "75&nbsp;%" in page and "no negative" in page


def test_pictures_are_those_made_without_recording(made: tuple[Path, Results]) -> None:
    import torch

    from negguide import AdaptiveNegatives, attach

    out, results = made
    SHOWN.clear()
    pipe = make_standin()
    with attach(pipe, AdaptiveNegatives(_watcher, looks=3)), pytest.warns(UserWarning, match="asleep"):
        generators = [torch.Generator().manual_seed(seed) for seed in SEEDS[:2]]
        images = pipe("a pet on grass", num_images_per_prompt=2, num_inference_steps=12, generator=generators).images
    for image, picture in zip(images, results.comparisons[0].rows[1].pictures, strict=False):
        with Image.open(out / picture.file) as kept:
            assert np.array_equal(np.asarray(kept.convert("RGB")), np.asarray(image))
