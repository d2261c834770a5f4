"""The parts of a comparison that need no model: what is read from text, and what is written back."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

import negguide as ng
from negguide.compare import Request, parse_arms
from negguide.compare.plot import plot, spread_out
from negguide.experiment.columns import COLUMNS, best, mean_scores, used
from negguide.experiment.recipe import format_seeds, python_of
from negguide.experiment.tasks import describe, make_tasks, parse_negatives, parse_seeds, parse_size, slugs


@pytest.mark.parametrize(
    "method",
    [
        ng.PerpNeg(["cat", ("hat", 0.5), ng.Negative("scarf", 2, ng.Window(0.25, 0.5))]),
        ng.NegativePrompt("cat", mode="signed", scale=3.0),
        ng.Interval(ng.Window(9.0, 0.5, "sigma")),
        ng.APG(),
    ],
)
def test_python_of_a_method_makes_it_again(method: ng.Method) -> None:
    assert eval(python_of(method), {"ng": ng}) == method


@pytest.mark.parametrize("text", ["0.2-0.8", "(0.2,0.8)", "[0.2,0.8]", "(0.2, 0.8)"])
def test_windows_as_one_types_them(text: str) -> None:
    plain, inside = parse_arms(f"plain,interval:window={text}")
    assert plain.build([]) == () and inside.build([]) == (ng.Interval(ng.Window(0.2, 0.8)),)


def test_watching_arms_by_name() -> None:
    """A guard watches for the negatives; the watcher is that of the model at hand."""
    adaptive, guard = parse_arms("adaptive,guard", watcher="toybox")
    assert not adaptive.needs_negatives and guard.needs_negatives
    assert adaptive.build([]) == (ng.AdaptiveNegatives("toybox"),)
    assert guard.build([ng.Negative("cat"), ng.Negative("hat")]) == (
        ng.AdaptiveNegatives("toybox", "guard", watch=["cat", "hat"]),
    )
    weighted = [ng.Negative("cat", 2, ng.Window(0, 0.4)), ng.Negative("hat", 2, ng.Window(0, 0.4))]
    assert guard.build(weighted) == (
        ng.AdaptiveNegatives("toybox", "guard", watch=["cat", "hat"], weight=2, window=(0, 0.4)),
    )
    with pytest.raises(ValueError, match="one weight and one window"):
        guard.build([ng.Negative("cat", 2), ng.Negative("hat")])
    (told,) = parse_arms('guard:watch=["hat"]:watcher=clip:toybox')
    assert not told.needs_negatives
    assert told.build([ng.Negative("cat")]) == (ng.AdaptiveNegatives("clip:toybox", "guard", watch=["hat"]),)
    with pytest.raises(ValueError, match=r"guard needs a watcher: guard:watcher=vqa:MODEL"):
        parse_arms("guard")


def test_windows_of_noise_as_one_types_them() -> None:
    assert parse_arms("interval:window=5.42-0.28sigma")[0].build([]) == (ng.Interval(ng.Window(5.42, 0.28, "sigma")),)
    with pytest.raises(ValueError, match=r"window is 'early'; possible: .* 0-0\.4 or 14\.6-1sigma"):
        parse_arms("interval:window=early")


def test_arms() -> None:
    plain, strong, both = parse_arms("plain, perp_neg:weight=2, ccfg:tau=1:boost_positive=true+apg:eta=0.5")
    assert plain.build([]) == () and not plain.needs_negatives
    assert strong.build([ng.Negative("cat", 0.5)]) == (ng.PerpNeg([("cat", 1.0)]),)
    assert both.build([ng.Negative("cat")]) == (
        ng.ContrastiveNegative("cat", tau=1.0, boost_positive=True),
        ng.APG(eta=0.5),
    )
    assert parse_arms("signed")[0].build([ng.Negative("cat")]) == (ng.NegativePrompt("cat", mode="signed"),)
    with pytest.raises(ValueError, match="needs a negative"):
        strong.build([])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("perpneg", "unknown method 'perpneg'; did you mean 'perp_neg'.*known: plain"),
        ("", "no method is named"),
        ("plain,plain", "'plain' is given twice"),
        ("plain+apg", "name it alone"),
        ("ccfg:tua=1", "ccfg has no option 'tua'; did you mean 'tau'"),
        ("ccfg:tau", "options are written name=value"),
        ("ccfg:tau=-1", "'ccfg:tau=-1': tau is -1"),
        ("ccfg:tau=much", "a number is needed"),
        ("apg:weight=1", "apg has no option 'weight'"),
        ("perp_neg:weight=NaN", "not a finite number"),
    ],
)
def test_arms_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_arms(text)


def test_tasks_join_own_and_shared_negatives() -> None:
    one, two = make_tasks(["a pet --no hat:0.5", "a face"], ["cat, dog:2@0-0.4", "hat:0.5"], weight=2)
    assert [negative.prompt for negative in one.negatives] == ["hat", "cat", "dog"]
    assert [negative.weight for negative in two.negatives] == [2, 4, 1]
    assert [describe(negative) for negative in one.negatives] == ["hat", "cat (weight 2)", "dog (weight 4, 0-40 %)"]
    assert make_tasks([one.text, two.text], []) == (one, two)
    assert parse_negatives(r"a\, b") == (ng.Negative("a, b"),)
    for prompts, negatives, weight, message in [
        (["  "], [], 1, "is empty"),
        (["--no cat"], [], 1, "is empty"),
        (["a pet"], [" "], 1, "the negative ' ' is empty"),
        (["a pet"], ["cat:x"], 1, "'cat:x' cannot be read: the weight 'x'"),
        (["a pet"], ["cat"], float("nan"), "weight nan"),
    ]:
        with pytest.raises(ValueError, match=message):
            make_tasks(prompts, negatives, weight)


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2), (5, 3, 4, 9), (7, 1)])
def test_seeds_are_read_back(seeds: tuple[int, ...]) -> None:
    assert parse_seeds(format_seeds(seeds)) == seeds


def test_small_texts() -> None:
    assert parse_seeds("0-2, 5,1") == (0, 1, 2, 5)
    assert parse_size("512") == (512, 512) and parse_size("768x512") == (768, 512) and parse_size(None) is None
    assert slugs(["A pet!", "a pet", "…", "../../etc"]) == ["a-pet", "a-pet-2", "prompt", "etc"]
    for bad in ("", "1,x", "-1", "1.5", "3-1", "0-99999999"):
        with pytest.raises(ValueError, match="seeds"):
            parse_seeds(bad)
    for bad in ("0", "12x", "big"):
        with pytest.raises(ValueError, match="size"):
            parse_size(bad)


def test_requests_that_cannot_be(tmp_path: Path) -> None:
    tasks, arms = make_tasks(["a pet"], ["cat"]), parse_arms("plain,negative,perp_neg")
    given = {"tasks": tasks, "arms": arms, "seeds": (0,), "out": tmp_path}
    for more, message in [
        ({"steps": 0}, "steps"),
        ({"batch": 0}, "batch"),
        ({"guidance_scale": float("inf")}, "not finite"),
        ({"takeover": True}, "takeover needs"),
        ({"tasks": ()}, "no prompt"),
        ({"tasks": make_tasks(["a pet"], [])}, "negative, perp_neg need a negative"),
    ]:
        with pytest.raises(ValueError, match=message):
            Request(**{**given, **more})


def test_columns() -> None:
    rows = [{"presence": 0.5, "passes": 50.0}, {"presence": 0.25, "passes": 75.0, "vendi": 2.0}]
    assert [column.key for column in used(rows)] == ["presence", "vendi", "passes"]
    presence, passes = COLUMNS[0], next(column for column in COLUMNS if column.key == "passes")
    assert best(presence, rows) == 0.25 and best(passes, rows) is None
    assert best(presence, rows[:1]) is None
    assert presence.write(0.25) == "25%" and presence.write(None) == "–"
    assert mean_scores(rows) == {"presence": 0.375, "passes": 62.5, "vendi": 2.0}


def test_the_plot_has_a_point_for_each_method_up_and_to_the_right() -> None:
    totals = {
        "plain": {"presence": 0.5, "subject": 1.0},
        "negative": {"presence": 0.0, "subject": 0.25},
        "perp_neg": {"presence": 0.0, "subject": 1.0},
        "failed": {"seconds": 1.0},
    }
    drawn = plot(totals)
    assert drawn is not None and [point.label for point in drawn.points] == ["plain", "negative", "perp_neg"]
    plain, negative, perp_neg = drawn.points
    (left, _), (right, _) = drawn.x_ticks[0], drawn.x_ticks[-1]
    assert plain.x == pytest.approx((left + right) / 2) and negative.x == perp_neg.x == pytest.approx(right)
    assert perp_neg.y == plain.y < negative.y  # up is small in SVG
    heights = sorted(point.label_y for point in drawn.points)
    assert all(after - before >= 17 for before, after in pairwise(heights))
    assert perp_neg.told == "perp_neg: 100% gone, subject kept 100%"
    assert plot({"plain": {"seconds": 1.0}}) is None and plot({}) is None


def test_labels_of_the_plot_keep_apart_and_inside() -> None:
    assert spread_out([100, 100, 100], 10, 0, 105) == [85, 95, 105]
    assert spread_out([50, 10], 10, 0, 100) == [50, 10]
