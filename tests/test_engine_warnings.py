"""Settings that cannot do what they seem to say are told, with the remedy."""

from __future__ import annotations

import warnings

import families
import pytest

from negguide.engine import attach
from negguide.methods import Method, Negative, NegativePrompt, PerpNeg, Window


@pytest.mark.parametrize("family", ["sd15", "wan"])
@pytest.mark.parametrize("method", [PerpNeg("cat"), NegativePrompt("cat"), NegativePrompt("cat", mode="signed")])
def test_a_negative_prompt_of_the_call_without_effect_is_told_once(family: str, method: Method) -> None:
    with attach(families.build(family), method):
        with pytest.warns(UserWarning, match="negative_prompt had no effect") as caught:
            families.run(family, negative_prompt="a hat")
            families.run(family, negative_prompt="a hat", seed=1)
        assert len([w for w in caught if "no effect" in str(w.message)]) == 1


@pytest.mark.parametrize(
    ("method", "negative"),
    [
        (PerpNeg("cat", unconditional="own"), "a hat"),
        (PerpNeg(Negative("cat", window=Window(0.0, 0.4))), "a hat"),
        (NegativePrompt(Negative("cat", 0.5)), "a hat"),
        (PerpNeg("cat"), ""),
        (NegativePrompt("cat"), ""),
        (PerpNeg("cat"), None),
    ],
)
def test_silent_where_it_has_an_effect(method: Method, negative: str | None) -> None:
    with attach(families.build("sd15"), method), warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*had no effect")
        families.run("sd15", negative_prompt=negative)


def test_the_advice_names_who_can_follow_it() -> None:
    with attach(families.build("sd15"), NegativePrompt("cat")), pytest.warns(UserWarning, match=r"\(of PerpNeg\)"):
        families.run("sd15", negative_prompt="a hat")
    assert PerpNeg("cat", unconditional="own").unconditional == "own"
    with pytest.raises(ValueError, match="signed"):
        NegativePrompt("cat", unconditional="own")


def test_two_replacing_negatives_are_refused() -> None:
    pipe = families.build("sd15")
    early, late = (Negative("cat", window=Window(*w)) for w in ((0.0, 0.5), (0.5, 1.0)))
    for pair in (("cat", "hat"), (early, "hat"), (["hat", ("cat", 0.5)], late)):
        with pytest.raises(ValueError, match=r"one NegativePrompt\(\[\.\.\.\]\)"):
            attach(pipe, NegativePrompt(pair[0]), NegativePrompt(pair[1]))
    for first, second in (
        (NegativePrompt(early), NegativePrompt(late)),
        (NegativePrompt("cat"), NegativePrompt("hat", mode="signed")),
        (NegativePrompt("cat"), NegativePrompt(("hat", 0.5))),
        (NegativePrompt("cat"), PerpNeg("hat")),
    ):
        attach(pipe, first, second).detach()
