"""Policies that look at all pictures of a prompt: who keeps a thing, who leaves it, and that other prompts are none of theirs."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import families
import pytest
import torch
from adaptive_parts import difference, generators, negatives

from negguide import AdaptiveNegatives, NegativePrompt, PerpNeg, Window, attach, from_json, get_method, to_json
from negguide.methods import EachImage, Negative
from negguide.methods.adaptive.policy import Crowding, Held, Sight, is_of_groups


def seen(*told: tuple[str, float] | None, held: dict[int, str] | None = None) -> list[Sight]:
    """What was seen on each picture of "a pet"."""
    rows = []
    for place, one in enumerate(told):
        now = () if one is None else (Held(*one),)
        kept = (Held(held[place]),) if held and place in held else ()
        rows.append(Sight(place, 5, 0.2, "a pet", now, now, kept))
    return rows


def texts(decided: Any) -> list[list[str]]:
    return [[one.text for one in own] for own in decided]


def test_the_surest_keeps_it_and_the_others_leave_it() -> None:
    shown = seen(("cat", 0.7), ("dog", 0.9), ("Cats", 0.95), None, ("cat", 0.8))
    assert texts(Crowding()(shown)) == [["cat"], [], [], [], ["cat"]]
    assert texts(Crowding(0.4)(shown)) == [["cat"], [], [], [], []], "two of five keep it"
    assert texts(Crowding(1.0)(shown)) == [[]] * 5
    unsure = seen(("cat", 0.5), ("cat", 0.5), ("cat", 0.5))
    assert texts(Crowding()(unsure)) == [[], ["cat"], ["cat"]], "of equals the first"


def test_what_was_left_stays_left_until_something_else_is() -> None:
    shown = seen(("dog", 0.9), ("dog", 0.8), ("bird", 0.9), held={0: "cat", 1: "cat", 2: "cat"})
    assert texts(Crowding()(shown)) == [["cat"], ["dog"], ["cat"]]


def test_shares_hold_for_any_sight() -> None:
    """Whatever is seen: of each thing as many keep it as may, the surest of those that show it, and nothing else is named."""
    draw = random.Random(3)
    for _ in range(300):
        count, share = draw.randint(1, 9), draw.choice([0.0, 0.25, 0.5])
        told = [(draw.choice("abc"), draw.random()) if draw.random() < 0.9 else None for _ in range(count)]
        decided = texts(Crowding(share)(seen(*told)))
        for thing, number in Counter(one[0] for one in told if one).items():
            keeping = [p for p, one in enumerate(told) if one and one[0] == thing and not decided[p]]
            leaving = [p for p, own in enumerate(decided) if own == [thing]]
            assert len(keeping) == min(number, max(1, int(share * count))) and len(leaving) == number - len(keeping)
            assert min(told[p][1] for p in keeping) >= max([told[p][1] for p in leaving], default=0.0)  # type: ignore[index]
        assert all(not own or (told[p] and own == [told[p][0]]) for p, own in enumerate(decided))  # type: ignore[index]


def kinds(*rows: str) -> Any:
    """A watcher that names a kind for each picture of the call, the earlier ones surer."""

    def watcher(images: Any, questions: Any) -> Any:
        watcher.looks += 1  # type: ignore[attr-defined]
        return [[(rows[at], 0.9 - 0.1 * at)] * len(questions) for at in range(len(images))]

    watcher.looks = 0  # type: ignore[attr-defined]
    return watcher


def test_groups_are_prompts_and_what_is_left_acts_as_a_fixed_negative_would() -> None:
    """Two prompts of three pictures; asked of each prompt by itself, the watcher starts anew."""
    method = AdaptiveNegatives(kinds("cat", "cat", "dog"), "distinct", kind="perp_neg", weight=2.0, looks=(0.0,))
    several: dict[str, Any] = {"prompt": ["a pet on grass", "one fruit"], "num_images_per_prompt": 3}
    with attach(families.build("sd15"), method) as attached:
        found = families.run("sd15", steps=4, generator=generators(*range(6)), **several)
        assert negatives(attached) == [[[], ["cat"], [], [], ["cat"], []]]
    told = EachImage((None, "cat", None, None, "cat", None))
    with attach(families.build("sd15"), PerpNeg(Negative(told, 2.0, Window(0.25, 1)), unconditional="own")):
        wanted = families.run("sd15", steps=4, generator=generators(*range(6)), **several)
    assert difference(found, wanted) < 1e-5
    with attach(families.build("sd15"), method):
        alone = families.run(
            "sd15", steps=4, generator=generators(3, 4, 5), prompt="one fruit", num_images_per_prompt=3
        )
    assert difference(found[3:], alone) < 5e-4, "the pictures of another prompt are none of theirs"


@pytest.mark.parametrize("family", ["sd15", "sd3", "flux"])
def test_by_itself_it_takes_the_recommended_negative(family: str) -> None:
    """NAG, whose first picture of a group stays what it is."""
    pipe = families.build(family)
    plain = families.run(family, num_images_per_prompt=2, generator=generators(0, 1))
    method = AdaptiveNegatives(kinds("cat", "cat"), "distinct", looks=(0.0,))
    with attach(pipe, method) as attached:
        acting = attached.methods[0]
        assert isinstance(acting, AdaptiveNegatives)
        assert acting.kind_at_work == "recommended"
        found = families.run(family, num_images_per_prompt=2, generator=generators(0, 1))
    assert difference(found[:1], plain[:1]) < 1e-5, "the surest keeps what it shows"
    assert difference(found[1:], plain[1:]) > 1e-4


def test_where_no_attention_is_known_it_is_perp_neg() -> None:
    method = AdaptiveNegatives("toybox", "distinct")
    assert method.for_layers(["cross"]) is method
    elsewhere = method.for_layers(["self"])
    assert isinstance(elsewhere, AdaptiveNegatives) and (elsewhere.kind, elsewhere.policy) == ("perp_neg", "distinct")
    creative = AdaptiveNegatives("toybox")
    assert creative.for_layers([]) is creative


def test_with_one_picture_it_says_that_it_does_nothing() -> None:
    watcher = kinds("cat")
    with attach(families.build("sd15"), AdaptiveNegatives(watcher, "surplus")), pytest.warns(UserWarning, match="=4"):
        assert torch.equal(families.run("sd15"), families.run("sd15", families.build("sd15")))
    assert watcher.looks == 0, "and nobody is asked"


def test_it_couples_and_survives_json() -> None:
    for name in ("distinct", "surplus"):
        method = get_method(name)(watcher="toybox")
        assert method.couples and method == AdaptiveNegatives("toybox", name) == from_json(to_json(method))
        assert not AdaptiveNegatives("toybox", name, weight=0.0).couples
    assert not AdaptiveNegatives("toybox").couples and not is_of_groups("creative") and is_of_groups(Crowding(0.5))


def test_a_policy_for_groups_of_ones_own() -> None:
    class Everything:
        """Each picture avoids what the others show."""

        couples: Any = True

        def __call__(self, sights: Any) -> Any:
            return [[one.text for other in sights if other is not sight for one in other.new] for sight in sights]

    method = AdaptiveNegatives(kinds("cat", "dog"), Everything(), kind="replace", looks=(0.0,))
    with attach(families.build("sd15"), method) as attached:
        found = families.run("sd15", num_images_per_prompt=2, generator=generators(0, 1))
    assert negatives(attached) == [[["dog"], ["cat"]]] and attached.methods[0].couples
    with attach(families.build("sd15"), NegativePrompt(Negative(EachImage(("dog", "cat")), window=Window(0.3, 1)))):
        assert difference(found, families.run("sd15", num_images_per_prompt=2, generator=generators(0, 1))) < 1e-5
    Everything.__call__ = lambda self, sights: ["cat"]  # type: ignore[method-assign]
    with attach(families.build("sd15"), method), pytest.raises(TypeError, match="one list for each of 2 pictures"):
        families.run("sd15", num_images_per_prompt=2, generator=generators(0, 1))
