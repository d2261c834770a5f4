"""What an option means is said once, in its field: checks, docstring and help agree with it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import pytest

from negguide.cli import main
from negguide.methods import METHODS
from negguide.methods.options import Option, check_options, literals, option, option_of, types_of

GIVEN = {"negatives": "hat", "watcher": "toybox", "watch": "hat"}
BESIDE: dict[tuple[str, str], dict[str, float]] = {
    ("dng", "prior"): {"p_max": 1 - 1e-6},
    ("dng", "p_min"): {"p_max": 1 - 1e-6},
    ("dng", "p_max"): {"p_min": 1e-30, "prior": 0},
}
BESIDE |= {("cads", "tau_1"): {"tau_2": 1}, ("cads", "tau_2"): {"tau_1": 0}}
FIELDS = [(name, field) for name, entry in METHODS.items() for field in dataclasses.fields(entry.method)]


def _make(name: str, field: str, value: Any) -> Any:
    entry = METHODS[name]
    known = {one.name for one in dataclasses.fields(entry.method)}
    given = {key: given for key, given in GIVEN.items() if key in known}
    given |= {"mode": "signed"} if name == "negative" and field == "scale" else {}
    given |= {"kind": "signed"} if name in ("adaptive", "distinct", "guard", "surplus") and field == "scale" else {}
    given |= {"adapter": "npo"} if name == "negative_model" else {}
    given |= {"file": "cat.safetensors"} if name == "learned_negative" else {}
    return entry(**{**given, **BESIDE.get((name, field), {}), field: value})


@pytest.mark.parametrize(("name", "field"), FIELDS, ids=lambda value: value if isinstance(value, str) else value.name)
def test_a_config_accepts_its_range_and_nothing_beyond(name: str, field: dataclasses.Field[Any]) -> None:
    meaning, parts = option_of(field), types_of(METHODS[name].method)[field.name]
    numbers = [kind for kind in (int, float) if kind in parts]
    if not numbers or bool in parts:
        return
    step = 1 if float not in parts else 1e-3
    for bound, is_open, outwards in ((meaning.low, meaning.above, -1), (meaning.high, meaning.below, 1)):
        if math.isinf(bound):
            continue
        inside = bound - outwards * step if is_open or (name, field.name, outwards) == ("dng", "prior", 1) else bound
        inside = max(inside, meaning.low) if inside < meaning.low else inside
        kind = float if float in parts else int
        assert getattr(_make(name, field.name, kind(inside)), field.name) == inside or field.name == "looks"
        for wrong in (bound + outwards * step, *((bound,) if is_open else ())):
            with pytest.raises((ValueError, TypeError), match=field.name):
                _make(name, field.name, kind(wrong))
    if float in parts:
        for wrong in (math.nan, math.inf, 10**400):
            with pytest.raises(ValueError, match="finite"):
                _make(name, field.name, wrong)
        with pytest.raises((TypeError, ValueError)):
            _make(name, field.name, "much")


@pytest.mark.parametrize("name", METHODS)
def test_every_option_says_what_it_means_in_help_and_docstring(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    method = METHODS[name].method
    assert main(["methods", name]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    doc = " ".join((method.__doc__ or "").split())
    for field in dataclasses.fields(method):
        if field.name == "negatives":
            continue
        meaning = option_of(field)
        assert meaning.help, field.name
        assert f"{field.name}: {meaning.help}" in doc
        assert field.name in METHODS[name].presets or " ".join(meaning.help.split()) in shown, field.name
        assert not meaning.range or meaning.range in shown.lower() or field.name in METHODS[name].presets


def test_an_unknown_method_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "perpneg"]) == 2
    error = capsys.readouterr().err
    assert "did you mean 'perp_neg'" in error and len(error.splitlines()) == 1


def test_flags_and_named_texts_are_checked() -> None:
    @dataclasses.dataclass(frozen=True)
    class Config:
        flag: bool = option(True, help="Whether.")
        way: Literal["here", "there"] = option("here", help="Where.")
        count: int | None = option(None, help="How many.", low=1)
        size: float = option(1.0, help="How large.", low=0, above=True, unit="m")

        def __post_init__(self) -> None:
            check_options(self)

    assert Config(size=2).size == 2.0 and isinstance(Config(size=2).size, float)
    for wrong, message in (
        ({"flag": 1}, "True or False"),
        ({"flag": "no"}, "True or False"),
        ({"way": "up"}, "'here', 'there'"),
        ({"way": 3}, "'here', 'there'"),
        ({"count": 0}, "at least 1"),
        ({"count": 1.5}, "whole number"),
        ({"count": True}, "an integer"),
        ({"size": 0}, "more than 0 m"),
        ({"size": None}, "a number is needed"),
        ({"size": True}, "a number is needed"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            Config(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("meaning", "words"),
    [
        (Option(), ""),
        (Option(low=0), "at least 0"),
        (Option(high=2, below=True), "less than 2"),
        (Option(low=0, high=1), "from 0 to 1"),
        (Option(low=-1, high=1, above=True, below=True), "more than -1, less than 1"),
        (Option(low=1, unit="pixels"), "at least 1 pixels"),
    ],
)
def test_ranges_in_words(meaning: Option, words: str) -> None:
    assert meaning.range == words


def test_texts_of_a_type() -> None:
    assert literals((Literal["a", "b"], type(None))) == ("a", "b") and literals((Literal["a", 1],)) == () == literals(
        (str,)
    )
