"""`compare` end to end on a stand-in model, and its parts."""

from __future__ import annotations

import html.parser
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from standin import make_standin, standin_folder

import negguide as ng
from negguide.compare import Request, Results, compare, parse_arms
from negguide.compare.records import Comparison, Picture, Row
from negguide.compare.report import render
from negguide.compare.sheet import tile_size, write_sheet
from negguide.experiment.columns import COLUMNS
from negguide.experiment.judges import ClipJudge, Verdict, choose_judges, judge_all
from negguide.experiment.models import Model, load_model
from negguide.experiment.recipe import python_lines
from negguide.experiment.tasks import describe, make_tasks, parse_negatives
from negguide.metrics import Clip
from negguide.toybox.clip import clip_dir
from negguide.toybox.judge import OracleJudge
from negguide.toybox.load import pipeline_dir
from negguide.toybox.oracle import Oracle
from negguide.toybox.world import render as draw
from negguide.toybox.world import sample_scene

SEEDS = (0, 1, 4)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model("stand-in", make_standin())


def _request(out: Path, methods: str = "plain,negative,perp_neg", **more: Any) -> Request:
    given = {"tasks": make_tasks(["a pet on grass"], ["cat"]), "seeds": SEEDS, "steps": 3, "batch": 2}
    return Request(arms=parse_arms(methods), out=out, **{**given, **more})


class _Brightness:
    """A judge that any picture can be judged by: what is bright shows the negative."""

    name = "brightness"

    def judge(self, pictures: Any, task: Any) -> Verdict:
        bright = [float(np.asarray(picture).mean()) for picture in pictures]
        return Verdict(
            {"presence": sum(bright) / len(bright) / 255}, [f"{b:.0f}" for b in bright], [b > 0 for b in bright]
        )


@pytest.fixture(scope="module")
def made(model: Model, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Results]:
    out = tmp_path_factory.mktemp("made")
    tasks = make_tasks(["a pet on grass", "a face --no hat:0.5@0-0.5, <b>"], ["cat"])
    return out, compare(model, _request(out, "plain,signed,perp_neg+apg", tasks=tasks), [_Brightness()])


def test_every_picture_is_there_with_its_settings_inside(made: tuple[Path, Results]) -> None:
    out, results = made
    assert results.finished and not results.errors
    for comparison in results.comparisons:
        for row, folder in zip(comparison.rows, ("plain", "signed", "perp_neg-apg"), strict=True):
            assert [picture.file for picture in row.pictures] == [f"{comparison.slug}/{folder}/{s}.png" for s in SEEDS]
            for picture in row.pictures:
                with Image.open(out / picture.file) as image:
                    assert image.size == (64, 64)
                    assert image.text["prompt"] == comparison.prompt
                    assert image.text["seed"] == str(picture.seed)
                    assert json.loads(image.text["methods"]) == row.methods
                    as_typed = ", ".join(json.loads(image.text["negatives"]))
                    assert [describe(one) for one in parse_negatives(as_typed)] == comparison.negatives
                    assert image.text["passes"] == f"{row.scores['passes']:g}"
    assert not list(out.rglob("*.tmp"))


def test_passes_are_those_of_the_steps(made: tuple[Path, Results]) -> None:
    one, two = made[1].comparisons
    assert [row.scores["passes"] for row in one.rows] == [6, 9, 9]
    assert [row.scores["passes"] for row in two.rows] == [6, 6 + 3 + 3 + 2, 6 + 3 + 3 + 2]  # hat holds for 2 of 3 steps


def test_results_come_back_from_json_and_methods_from_theirs(made: tuple[Path, Results]) -> None:
    out, results = made
    assert Results.load(out) == results
    method, stabiliser = (ng.from_dict(data) for data in results.comparisons[1].rows[2].methods)
    assert isinstance(method, ng.PerpNeg) and isinstance(stabiliser, ng.APG)
    assert method.negatives[0] == ng.Negative("hat", 0.5, ng.Window(0, 0.5))
    expected = [np.mean([c.rows[i].scores["presence"] for c in results.comparisons]) for i in range(3)]
    assert [results.totals[row.label]["presence"] for row in results.comparisons[0].rows] == pytest.approx(expected)


def test_pictures_are_those_of_attach_and_do_not_depend_on_the_batch(made: tuple[Path, Results], model: Model) -> None:
    out, results = made
    method = ng.PerpNeg("cat")
    for row, methods in zip(results.comparisons[0].rows, [(), None, (method, ng.APG())], strict=True):
        if methods is None:
            continue
        with ng.attach(model.pipe, *methods):
            for picture in row.pictures:
                generator = torch.Generator().manual_seed(picture.seed)
                alone = model.pipe("a pet on grass", num_inference_steps=3, generator=generator).images[0]
                with Image.open(out / picture.file) as image:
                    assert np.abs(np.asarray(image, int) - np.asarray(alone, int)).max() <= 1


def test_report_is_self_contained_and_escaped(made: tuple[Path, Results]) -> None:
    out, results = made
    text = (out / "report.html").read_text()
    page = _Page()
    page.feed(text)
    assert page.images == 2 * 3 * len(SEEDS)
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert "@import" not in text and "url(" not in text and "fetch(" not in text
    assert "<b>&lt;b&gt;</b>" in text and "<b><b></b>" not in text
    assert results.judge == "brightness" and "brightness" in text
    assert "perp_neg+apg" in text and "negguide compare" in text


def test_sheet_shows_every_method_and_seed(made: tuple[Path, Results]) -> None:
    out, results = made
    comparison = results.comparisons[0]
    assert comparison.sheet == f"{comparison.slug}/sheet.png"
    with Image.open(out / comparison.sheet) as sheet:
        pixels = np.asarray(sheet)
        width, height = tile_size(64, 64)
        assert (width, height) == (128, 128)
        with Image.open(out / comparison.rows[2].pictures[2].file) as picture:
            tile = np.asarray(picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS))
    found = np.lib.stride_tricks.sliding_window_view(pixels[:, :, 0], (8, 8))[-140:, -140:]
    assert (found == tile[60:68, 60:68, 0]).all((2, 3)).any()


def test_a_method_that_fails_leaves_the_others_and_what_it_made(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter([True] * 3 + [False] * 3)  # the second call of the pipeline fails in its first step

    def combine(self: Any, guidance: Any, state: Any) -> None:
        if not next(calls):
            raise RuntimeError("out\nof patience")

    monkeypatch.setattr(ng.ContrastiveNegative, "combine", combine)
    results = compare(model, _request(tmp_path, "plain,ccfg,perp_neg"))
    plain, broken, perp_neg = results.comparisons[0].rows
    assert broken.error == "RuntimeError: out of patience" and plain.error is None and perp_neg.error is None
    assert [len(row.pictures) for row in (plain, broken, perp_neg)] == [3, 2, 3]
    assert all((tmp_path / picture.file).is_file() for picture in broken.pictures)
    assert results.errors == ["ccfg on 'a pet on grass': RuntimeError: out of patience"]
    assert "out of patience" in (tmp_path / "report.html").read_text()
    assert Results.load(tmp_path).errors == results.errors


def test_interrupted_what_was_made_is_recorded(model: Model, tmp_path: Path) -> None:
    done = 0.0

    def progress(what: str, more: float) -> None:
        nonlocal done
        done += more
        if done > 5.1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(model, _request(tmp_path), progress=progress)
    results = Results.load(tmp_path)
    assert not results.finished
    assert [len(row.pictures) for row in results.comparisons[0].rows] == [3, 2]
    assert len(list(tmp_path.rglob("*.png"))) == 5
    assert "not finished" in (tmp_path / "report.html").read_text()


def test_progress_adds_up_to_the_pictures(model: Model, tmp_path: Path) -> None:
    told: list[float] = []
    compare(model, _request(tmp_path, "plain,perp_neg"), progress=lambda what, more: told.append(more))
    assert sum(told) == pytest.approx(2 * len(SEEDS))
    assert len(told) > 2 * len(SEEDS)


def test_the_python_lines_make_the_same_pictures(tmp_path: Path) -> None:
    loaded = load_model(standin_folder())
    request = _request(tmp_path, "plain,perp_neg:weight=2", guidance_scale=4.0, seeds=(0, 1))
    results = compare(loaded, request)
    names: dict[str, Any] = {}
    exec(results.python, names)
    for image, picture in zip(names["images"], results.comparisons[0].rows[1].pictures, strict=True):
        with Image.open(tmp_path / picture.file) as made:
            assert np.array_equal(np.asarray(made), np.asarray(image))


def test_plain_by_takeover_is_the_model_without_guidance(tmp_path: Path) -> None:
    """Not with the scale of 7.5 that the pipeline's call has by default; the Python lines say the same."""
    loaded = load_model(standin_folder())
    request = _request(tmp_path, "plain", guidance_scale=4.0, seeds=(0, 1), takeover=True)
    row = compare(loaded, request).comparisons[0].rows[0]
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    call = {"num_inference_steps": request.steps, "num_images_per_prompt": 2, "guidance_scale": 1.0}
    unguided = loaded.pipe(request.tasks[0].prompt, generator=generators, **call).images
    names: dict[str, Any] = {}
    exec(python_lines(loaded, request), names)
    for image, again, picture in zip(unguided, names["images"], row.pictures, strict=True):
        with Image.open(tmp_path / picture.file) as made:
            assert np.array_equal(np.asarray(made), np.asarray(image))
            assert np.array_equal(np.asarray(made), np.asarray(again))
    assert row.scores["passes"] == request.steps


def test_report_of_large_pictures_and_missing_files(made: tuple[Path, Results], tmp_path: Path) -> None:
    Image.new("RGB", (1500, 900), "red").save(tmp_path / "0.png")
    pictures = [Picture(seed=0, file="0.png"), Picture(seed=1, file="gone.png")]
    rows = [Row(label="plain", summary="", methods=[], pictures=pictures)]
    comparison = Comparison(prompt="x", negatives=[], text="x", slug="x", rows=rows)
    results = made[1].model_copy(update={"comparisons": [comparison], "seeds": [0, 1]})
    page = _Page()
    page.feed(render(tmp_path, results))
    assert page.images == 1 and page.addresses[-1].startswith("data:image/webp")
    assert write_sheet(tmp_path, comparison.model_copy(update={"rows": []}), [0]) is None


def test_oracle_judges_its_world() -> None:
    rng = np.random.default_rng(0)
    plain: dict[str, Any] = {"background": "grass", "count": 1, "style": "clean", "accessories": (), "size": "large"}
    kinds = ["cat", "cat", "dog", "apple"]
    pictures = [Image.fromarray(draw(sample_scene(rng, kind=kind, colour="red", **plain))) for kind in kinds]
    judge = OracleJudge(Oracle.load())
    (task,) = make_tasks(["a pet on grass"], ["cat", "hat"])
    verdict = judge.judge(pictures, task)
    assert verdict.shows_negative == [True, True, False, False]
    expected = {"presence": 0.5, "subject": 0.75, "match": 0.75, "valid": 1.0, "kinds": 3.0, "entropy": 1.5}
    assert verdict.scores == pytest.approx(expected)
    assert verdict.notes is not None and verdict.notes[2].startswith("red dog") and "grass" in verdict.notes[2]
    unknown = judge.judge(pictures, make_tasks(["a zebra"], ["a unicorn"])[0])
    assert set(unknown.scores) == {"valid", "kinds", "entropy"} and unknown.shows_negative is None


def test_clip_judges_anything_and_the_oracle_has_the_first_word() -> None:
    judge = ClipJudge(Clip("fake", _Texts(), _colour, lambda texts: torch.tensor([_axis(text) for text in texts])))
    pictures = [Image.new("RGB", (2, 2), colour) for colour in ("red", "red", "lime", "blue")]
    verdict = judge.judge(pictures, make_tasks(["red"], ["lime", "blue"])[0])
    assert verdict.scores["alignment"] == pytest.approx(0.5)
    assert verdict.shows_negative == [False, False, True, True]
    assert verdict.scores["presence"] == pytest.approx((0.5 + 0.5 + 1 + 1) / 4)  # red is as near to it as to neutral
    assert verdict.scores["mss"] == pytest.approx(1 / 6) and 2 < verdict.scores["vendi"] < 3
    both = judge_all([_Brightness(), judge], pictures, make_tasks(["red"], ["lime"])[0])
    assert both.scores["presence"] == pytest.approx(85 / 255) and both.notes == ["85"] * 4
    assert both.scores["alignment"] == pytest.approx(0.5)
    assert "vendi" not in judge.judge(pictures[:1], make_tasks(["red"], [])[0]).scores


def test_only_the_toybox_has_judges_of_its_own_and_others_are_judged_by_their_pixels(model: Model) -> None:
    (judge,) = choose_judges(model, None)
    pictures = [Image.new("RGB", (2, 2), colour) for colour in ("red", "red", "lime")]
    verdict = judge.judge(pictures, make_tasks(["red"], ["lime"])[0])
    assert verdict.scores["mss"] == pytest.approx(1 / 9, abs=1e-5) and 1 < verdict.scores["vendi"] < 2
    assert "--clip" in judge.name and judge.judge(pictures[:1], make_tasks(["red"], [])[0]).scores == {}


@pytest.mark.skipif(not (pipeline_dir().is_dir() and clip_dir().is_dir()), reason="the Toybox is not trained yet")
def test_the_toybox_from_end_to_end(tmp_path: Path) -> None:
    toybox = load_model("toybox")
    judges = choose_judges(toybox, None)
    results = compare(toybox, _request(tmp_path, "plain,perp_neg", steps=8, guidance_scale=5.0), judges)
    assert not results.errors
    for row in results.comparisons[0].rows:
        assert set(row.scores) == {column.key for column in COLUMNS if not column.key.startswith("asked_")}
        assert all(picture.note and picture.shows_negative is not None for picture in row.pictures)
        assert row.scores["valid"] > 0


class _Page(html.parser.HTMLParser):
    """What a page shows and loads."""

    def __init__(self) -> None:
        super().__init__()
        self.images = 0
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.images += tag == "img"
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "action") and value]


class _Texts(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.logit_scale = torch.nn.Parameter(torch.tensor(4.6))

    def encode_image(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures

    def encode_text(self, texts: torch.Tensor) -> torch.Tensor:
        return texts


def _axis(text: str) -> list[float]:
    names = ("red", "lime", "blue")
    return [float(name in text) for name in names] + [float(not any(name in text for name in names))]


def _colour(picture: Image.Image) -> torch.Tensor:
    return torch.tensor([*(value / 255 for value in picture.getpixel((0, 0))), 0.0])
