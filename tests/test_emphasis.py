"""Weights written into a negative: read where the text is weighted as a whole, told elsewhere, the same at every door."""

from __future__ import annotations

import warnings

import families
import pytest
import torch

from negguide.engine import attach
from negguide.experiment.tasks import make_tasks, parse_negatives
from negguide.methods import (
    Condition,
    EachImage,
    Negative,
    NegativePrompt,
    PerpNeg,
    Positive,
    format_prompt,
    from_json,
    parse_prompt,
    to_json,
)


def read(text: str) -> tuple[list[tuple[object, float]], list[str]]:
    """The negative that Python makes of a text, and what it warns of."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        negatives = PerpNeg(text).negatives
    return [(one.prompt, one.weight) for one in negatives], [str(one.message) for one in told]  # type: ignore[union-attr]


def from_command_line(text: str) -> tuple[list[tuple[object, float]], list[str]]:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        negatives = parse_negatives(text)
    return [(one.prompt, one.weight) for one in negatives], [str(one.message) for one in told]


@pytest.mark.parametrize("door", [read, from_command_line])
@pytest.mark.parametrize(
    ("text", "prompt", "weight"),
    [
        ("(cat:1.5)", "cat", 1.5),
        (" ( a cat : .5 ) ", "a cat", 0.5),
        ("(cat:+2)", "cat", 2.0),
        ("(cat)", "cat", 1.1),
        ("((cat))", "cat", 1.21),
        ("(((cat)))", "cat", 1.331),
        ("((cat:1.5))", "cat", 1.65),
        ("[cat]", "cat", 0.909091),
        ("[[cat]]", "cat", 0.826446),
        ("cat++", "cat", 1.21),
        ("cat+++", "cat", 1.331),
        ("cat--", "cat", 0.81),
        ("(a cat)+", "a cat", 1.1),
        ("(a cat)--", "a cat", 0.81),
        ("(a cat)1.4", "a cat", 1.4),
        ("(cat, dog:1.3)", "cat, dog", 1.3),
        ("(a (fat) cat:2)", "a (fat) cat", 2.0),
        ("(cat:0)", "cat", 0.0),
    ],
)
def test_a_text_that_is_weighted_as_a_whole_is_a_negative_of_that_weight(
    door: object, text: str, prompt: str, weight: float
) -> None:
    negatives, told = door(text)  # type: ignore[operator]
    assert negatives == [(prompt, weight)]
    assert any("is read as" in one and repr(prompt) in one and f"{weight:g}" in one for one in told)


@pytest.mark.parametrize("door", [read, from_command_line])
@pytest.mark.parametrize(
    "text", ["a (fat) cat", "(a)(b)", "[a|b]", "[a:b:0.5]", "a cat++ there", "big (cat:1.5)", "()"]
)
def test_weights_of_parts_are_told(door: object, text: str) -> None:
    negatives, told = door(text)  # type: ignore[operator]
    assert negatives == [(text, 1.0)] and len(told) == 1
    assert "stand in the text as they are" in told[0] and "whole" in told[0]


def test_a_list_with_weights_is_parted_on_the_command_line_and_told_in_python() -> None:
    text = "(blurry:1.4), low quality, ((a, b)), [c]"
    wanted = [("blurry", 1.4), ("low quality", 1.0), ("a, b", 1.21), ("c", 0.909091)]
    assert from_command_line(text)[0] == wanted
    negatives, told = read(text)
    assert negatives == [(text, 1.0)]
    assert "[('blurry', 1.4), 'low quality', ('a, b', 1.21), ('c', 0.909091)]" in told[0]
    with pytest.warns(UserWarning, match="stand in the text"):
        Negative(("a cat", "(dog:1.5)"))
    with pytest.warns(UserWarning, match="is read as 'cat' with weight 1.5"):
        assert Positive("(cat:1.5)", 2.0).weight == 3.0
    with pytest.warns(UserWarning, match="is read as"):
        negatives_of_prompt = parse_prompt("a pet --no (cat, dog:1.5):2@0-0.4, hat")[1]
        assert [(one.prompt, one.weight, one.window.stop) for one in negatives_of_prompt] == [
            ("cat, dog", 3.0, 0.4),
            ("hat", 1.0, 1.0),
        ]


@pytest.mark.parametrize("door", [read, from_command_line])
@pytest.mark.parametrize(
    ("text", "message"),
    [("(cat:1,5)", "decimal comma; write 1.5"), ("(cat:-1.5)", "a negative of weight 1 is pushed away")],
)
def test_weights_that_cannot_be_are_refused(door: object, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        door(text)  # type: ignore[operator]


@pytest.mark.parametrize("door", [read, from_command_line])
@pytest.mark.parametrize(
    ("text", "read_by_the_encoder"),
    [
        (r"\(cat\)", "(cat)"),
        (r"saber \(fate\)", "saber (fate)"),
        (r"\[cat\]", "[cat]"),
        (r"C\+\+", "C++"),
        ("18+", "18+"),
        ("B-", "B-"),
        ("a well-known cat", "a well-known cat"),
        ("smile)", "smile)"),
        ("(smile", "(smile"),
        ("(smile]", "(smile]"),
    ],
)
def test_characters_that_are_no_weight_are_said_without_a_word(
    door: object, text: str, read_by_the_encoder: str
) -> None:
    negatives, told = door(text)  # type: ignore[operator]
    assert negatives == [(text, 1.0)] and not told
    negative = Negative(text)
    assert negative.condition == Condition(read_by_the_encoder)
    assert parse_prompt(format_prompt("a pet", [negative])) == ("a pet", (negative,))
    assert from_json(to_json(PerpNeg(negative))) == PerpNeg(negative)
    assert Negative((text, "x")).condition == Condition((read_by_the_encoder, "x"))


def test_the_weight_acts() -> None:
    with attach(families.build("sd15"), NegativePrompt(Negative("cat", 1.5))):
        wanted = families.run("sd15")
    with pytest.warns(UserWarning, match="is read as"):
        method = NegativePrompt("(cat:1.5)")
    with attach(families.build("sd15"), method):
        assert torch.equal(families.run("sd15"), wanted)
    assert from_json(to_json(method)) == method == NegativePrompt(("cat", 1.5))
    with attach(families.build("sd15"), NegativePrompt(r"\(cat\)")):
        found = families.run("sd15")
    stock = families.run("sd15", negative_prompt="(cat)")
    assert float((found - stock).abs().max()) < 1e-5 * float(stock.abs().max())
    assert Negative(EachImage(("(cat:1.5)", None))).weight == 1.0, "what a watcher says is taken as it is"


def test_tasks_weigh_their_negatives_once() -> None:
    with pytest.warns(UserWarning, match="is read as"):
        (task,) = make_tasks(["a pet --no (hat:2)"], ["((cat))"], weight=0.5)
    assert [(one.prompt, one.weight) for one in task.negatives] == [("hat", 1.0), ("cat", 0.605)]
    assert make_tasks([task.text], []) == (task,)
