"""Negatives with what should stand in their place: formulas in loops, refusals, JSON, and a pipeline."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

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


@pytest.mark.parametrize("make", [VSF, DynamicNegative, NegativePrompt])
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


class Told:
    """Tokens of one layer, as NAG hears them; each text has its own features."""

    def __init__(self, reads: bool) -> None:
        draw = torch.Generator().manual_seed(4)
        self.known = {text: torch.randn(2, 5, 6, generator=draw) for text in ("prompt", "hat", "red", "snow")}
        self.rows: dict[Any, torch.Tensor] = {"cond": self.known["prompt"]}
        self.layer = SimpleNamespace(reads_any_text=reads, kind="cross", name="attn2")
        self.context = SimpleNamespace(defaults={})
        self.step = SimpleNamespace(progress=0.0, sample=self.known["prompt"])
        self.grid = None
        self.branches = ("cond",)

    def __contains__(self, key: object) -> bool:
        return key == "cond"

    def __getitem__(self, key: Any) -> torch.Tensor:
        return self.rows[key] if key in self.rows else self.known[key.prompt]

    def __setitem__(self, key: Any, value: torch.Tensor) -> None:
        self.rows[key] = value

    def attend_to(self, condition: Any) -> torch.Tensor:
        return self.known[condition.prompt]


@pytest.mark.parametrize("reads", [True, False])
def test_nag_goes_from_the_negative_to_what_stands_for_it(reads: bool) -> None:
    told = Told(reads)
    method = NAG([ANCHORED, Negative("snow", 0.5)], scale=3.0, tau=1e6, alpha=0.5)
    method.tokens(told, {})  # type: ignore[arg-type]
    plus, hat, red, snow = (told.known[text].double() for text in ("prompt", "hat", "red", "snow"))
    # Weights 1 and 0.5 are mixed two to one: c = 2/3 and 1/3 of the way from the prompt.
    away = (2 * (hat - red) + (snow - plus)) / 3
    agree(told.rows["cond"], plus - 0.5 * 2 * away)
    if not reads:
        assert all(torch.equal(value, told.rows["cond"]) for value in told.rows.values()) and len(told.rows) == 4


def test_nag_by_the_orthogonal_part_alone() -> None:
    told = Told(True)
    NAG("hat", scale=2.5, tau=1e6, alpha=1.0, part="orthogonal").tokens(told, {})  # type: ignore[arg-type]
    rows = []
    for plus, hat in zip(
        told.known["prompt"].double().view(-1, 6), told.known["hat"].double().view(-1, 6), strict=True
    ):
        unit = plus / plus.norm()
        rows.append(plus - 1.5 * (hat - float(unit @ hat) * unit))
    agree(told.rows["cond"], torch.stack(rows).view(2, 5, 6))
    same = Told(True)
    same.known["hat"] = 3 * same.known["prompt"]
    NAG("hat", part="orthogonal").tokens(same, {})  # type: ignore[arg-type]
    agree(same.rows["cond"], same.known["prompt"].double())


@pytest.mark.parametrize("make", [NAG, Recommended])
@pytest.mark.parametrize("family", ["sd15", "sd3"])
def test_an_anchor_acts_inside_attention(make: Any, family: str) -> None:
    pipe, found = families.build(family), []
    for negative in (Negative("hat"), ANCHORED, Negative("hat", instead_of="snow")):
        with attach(pipe, make(negative)):
            found.append(families.run(family))
    assert not torch.equal(found[0], found[1]) and not torch.equal(found[1], found[2])
    assert from_json(to_json(make(ANCHORED))) == make(ANCHORED)
