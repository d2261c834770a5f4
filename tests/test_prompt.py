"""Negatives written inside a prompt."""

from __future__ import annotations

import random

import pytest
import torch

from negguide.methods import Mask, Negative, Window, format_prompt, parse_prompt


@pytest.mark.parametrize(
    ("text", "prompt", "negatives"),
    [
        ("a portrait", "a portrait", []),
        ("  kept as it is ", "  kept as it is ", []),
        ("a portrait --no hat", "a portrait", [Negative("hat")]),
        ("a portrait --no glasses:0.8, hat", "a portrait", [Negative("glasses", 0.8), Negative("hat")]),
        ("a --no hat:0.8@0-0.4", "a", [Negative("hat", 0.8, Window(0, 0.4))]),
        ("a --no hat @ 0.1 - .5 , cap: 2", "a", [Negative("hat", 1, Window(0.1, 0.5)), Negative("cap", 2)]),
        ("a --no hat@14.6-1sigma", "a", [Negative("hat", 1, Window(14.6, 1, "sigma"))]),
        ("a --no red hat --no cap", "a", [Negative("red hat"), Negative("cap")]),
        ("--no hat", "", [Negative("hat")]),
        ("a\n--no\nhat", "a", [Negative("hat")]),
        (r"a --no sign\: stop, a\,b, me\@home, back\\slash", "a",
         [Negative("sign: stop"), Negative("a,b"), Negative("me@home"), Negative("back\\slash")]),
        (r"the flag \--no and --no hat", "the flag --no and", [Negative("hat")]),
        (r"only \--no here", "only --no here", []),
        (r"a --no the \--no word", "a", [Negative("the --no word")]),
        ("a--no hat, --nothing", "a--no hat, --nothing", []),
        ("a portrait: 1:2, me@home, c:\\x", "a portrait: 1:2, me@home, c:\\x", []),
        ("a --no hat:0", "a", [Negative("hat", 0)]),
        ("a --no hat:1e-3@0-1e-1", "a", [Negative("hat", 1e-3, Window(0, 0.1))]),
    ],
)  # fmt: skip
def test_parse(text: str, prompt: str, negatives: list[Negative]) -> None:
    assert parse_prompt(text) == (prompt, tuple(negatives))


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("a --no", 7, "nothing follows '--no'"),
        ("a --no  --no hat", 7, "nothing follows '--no'"),
        ("a --no hat,", 12, "a negative without text"),
        ("a --no hat,,cap", 12, "a negative without text"),
        ("a --no :0.5", 7, "a negative without text"),
        ("a --no hat:big", 11, r"the weight 'big' is not a number of 0 or more.*written \\:"),
        ("a --no hat:-1", 11, "the weight '-1' is not a number of 0 or more"),
        ("a --no hat:nan", 11, "the weight 'nan'"),
        ("a --no hat:", 11, "the weight ''"),
        ("a --no hat:1:2", 13, "comes too late or twice"),
        ("a --no hat@0-1:2", 15, "comes too late or twice"),
        ("a --no hat@0.4", 11, "the window '0.4' is not start-stop"),
        ("a --no hat@0.4-0.1", 11, "0 <= start <= stop <= 1"),
        ("a --no hat@1-14sigma", 11, "noise falls"),
    ],
)
def test_errors_say_where(text: str, position: int, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_prompt(text)
    assert str(caught.value).startswith(f"at character {position} of {text!r}: ")


def test_format() -> None:
    assert format_prompt("a") == "a"
    assert format_prompt("", [Negative("hat")]) == "--no hat"
    negatives = [Negative("hat", 0.8, Window(0, 0.4)), Negative("a:b"), Negative("c", 2, Window(9.5, 1, "sigma"))]
    assert format_prompt("a portrait", negatives) == r"a portrait --no hat:0.8@0-0.4, a\:b, c:2@9.5-1sigma"
    for odd in (Negative("hat", mask=Mask(torch.ones(2, 2))), Negative(("a", "b"))):
        with pytest.raises(ValueError, match="no inline form"):
            format_prompt("a", [odd])


@pytest.mark.filterwarnings("ignore:.*(is read as|stand in the text)")
def test_round_trip() -> None:
    chooser = random.Random(0)
    pieces = ["a", "hat", "--no", "\\", ",", ":", "@", " ", "0.5", "é", "--", r"\--no", "\\\\"]
    for _ in range(2000):
        prompt = " ".join(chooser.choices(pieces, k=chooser.randint(0, 5))).strip()
        negatives = []
        for _ in range(chooser.randint(0, 3)):
            text = "".join(chooser.choices(pieces, k=chooser.randint(1, 5))).strip() or "x"
            window = chooser.choice([Window(), Window(0, 0.4), Window(0.123456789, 1), Window(3.5, 1e-7, "sigma")])
            negatives.append(Negative(text, chooser.choice([1, 0, 0.8, 1e-9, 123456.789]), window))
        assert parse_prompt(format_prompt(prompt, negatives)) == (prompt, tuple(negatives))
