"""Negatives with what should stand in their place: formulas in loops, refusals, JSON, and a pipeline."""

from __future__ import annotations

import families
import pytest
import torch
from test_methods import W, agree, draw, guide, loop, passes, plain

from negguide.engine import attach
from negguide.experiment.tasks import describe
from negguide.methods import (
    NAG,
    VSF,
    ContrastiveNegative,
    DynamicNegative,
    Method,
    Negative,
    NegativePrompt,
    PerpNeg,
    Recommended,
    format_prompt,
    from_json,
    to_json,
)

ANCHORED = Negative("hat", instead_of="red")
TAKE_IT: list[Method] = [
    PerpNeg(ANCHORED),
    NegativePrompt(ANCHORED, mode="signed", scale=3.0),
    ContrastiveNegative(ANCHORED, tau=0.01),
]


def test_signed_subtracts_the_negative_and_adds_what_stands_for_it() -> None:
    method = NegativePrompt(Negative("hat", 0.5, instead_of="red"), mode="signed", scale=3.0)
    expected = loop(lambda u, c, hat, red: u + W * (c - u) - 1.5 * hat + 1.5 * red, "", "a portrait", "hat", "red")
    agree(guide(method).result(), expected)


def test_contrastive_without_fading_is_signed() -> None:
    expected = loop(lambda u, c, hat, red: u + W * (c - u - hat + red), "", "a portrait", "hat", "red")
    agree(guide(ContrastiveNegative(ANCHORED, tau=0.0)).result(), expected)


def test_perp_neg_removes_the_difference_across_the_prompt() -> None:
    rows = []
    for u, c, hat, red in zip(*(draw(name).double() for name in ("", "a portrait", "hat", "red")), strict=True):
        toward, away = (c - u).flatten(), (hat - red).flatten()
        unit = toward / toward.norm()
        rows.append((u.flatten() + W * (toward - away + float(unit @ away) * unit)).view_as(u))
    agree(guide(PerpNeg(ANCHORED)).result(), torch.stack(rows))


def test_perp_neg_with_the_prompt_for_an_anchor_is_perp_neg() -> None:
    one = guide(PerpNeg(Negative("hat", instead_of="prompt")), prompt=draw("a portrait"))
    agree(one.result(), guide(PerpNeg("hat")).result())


@pytest.mark.parametrize("method", TAKE_IT, ids=lambda method: method.name)
def test_a_negative_that_says_the_same_as_its_anchor_removes_nothing(method: Method) -> None:
    same = draw("hat")
    assert torch.equal(guide(method, hat=same, red=same.clone()).result(), plain())


@pytest.mark.parametrize("method", TAKE_IT, ids=lambda method: method.name)
def test_an_anchor_costs_a_pass_while_its_negative_acts_and_survives_json(method: Method) -> None:
    assert passes(method) == 3
    assert {"hat", "red"} <= {condition.prompt for condition in method.prompts()}
    assert from_json(to_json(method)) == method
    assert '"instead_of": "red"' in to_json(method)
    assert passes(PerpNeg(Negative("hat", 0.0, instead_of="red"))) == 0


@pytest.mark.parametrize("make", [NAG, VSF, DynamicNegative, NegativePrompt, Recommended])
def test_others_say_that_they_do_not_take_it(make: type) -> None:
    with pytest.raises(ValueError, match="instead_of"):
        make(ANCHORED)


def test_a_guider_says_that_it_does_not_take_it() -> None:
    guiders = pytest.importorskip("negguide.guiders", exc_type=ImportError)
    with pytest.raises(ValueError, match="instead_of"):
        guiders.PerpNegGuidance(ANCHORED)


@pytest.mark.parametrize(
    ("prompt", "anchor", "error"),
    [
        ("cat", "cat", ValueError),
        ("cat", " ", ValueError),
        ("cat", ("pet", "dog"), ValueError),
        (("cat", "hat"), ("pet",), ValueError),
        (("cat", "hat"), ("pet", ""), ValueError),
        ("cat", 3, TypeError),
        ("cat", ("pet", 3), TypeError),
    ],
)
def test_anchors_that_say_nothing_are_refused(prompt: object, anchor: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"instead_of|instead of itself"):
        Negative(prompt, instead_of=anchor)  # type: ignore[arg-type]


def test_it_is_told_and_never_lost_in_words() -> None:
    assert describe(Negative("cat", 0.8, instead_of="dog")) == "cat (instead of dog, weight 0.8)"
    with pytest.raises(ValueError, match="instead_of"):
        format_prompt("a pet", [Negative("cat", instead_of="dog")])


def test_in_a_pipeline_each_prompt_has_its_own() -> None:
    pipe, plain_pixels = families.build("sd15"), families.run("sd15")
    prompts = ["a pet on grass", "one red apple"]

    def images(method: Method, prompt: str | list[str], *seeds: int) -> torch.Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        with attach(pipe, method) as attached:
            found = families.run("sd15", prompt=prompt, generator=generators if len(seeds) > 1 else generators[0])
            assert attached.passes == 4 * len(attached.trace)
        return found

    both = images(PerpNeg(Negative(("cat", "apple"), instead_of=("dog", "pear"))), prompts, 0, 1)
    for i, (negative, anchor) in enumerate([("cat", "dog"), ("apple", "pear")]):
        alone = images(PerpNeg(Negative(negative, instead_of=anchor)), prompts[i], i)
        assert float((both[i : i + 1] - alone).abs().max() / alone.abs().max()) < 2e-4
        other = images(PerpNeg([negative, (anchor, 0.001)]), prompts[i], i)
        assert float((alone - other).abs().max() / alone.abs().max()) > 0.01, "the anchor is at work"
    with attach(pipe, PerpNeg(Negative("cat", 0.0, instead_of="dog"))):
        assert torch.equal(families.run("sd15"), plain_pixels)
    assert torch.equal(families.run("sd15"), plain_pixels)
