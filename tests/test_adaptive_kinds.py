"""A kind of negative is a method: adaptive negatives hand every event and every flag of it on, for the images it is for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import families
import pytest
import torch
from adaptive_parts import difference, generators, says

from negguide import APG, SPELL, AdaptiveNegatives, Interval, Negative, NegativePrompt, PerpNeg, Window, attach
from negguide.methods import Condition, Denoised, Guidance, Method, Step


@dataclasses.dataclass(frozen=True)
class Quiet(Method):
    """Never guides."""

    name = "quiet"
    acts_alone = False

    def guides(self, step: Step) -> bool:
        return False


def second_only(images: Any, questions: Any) -> Any:
    """Sees a cat on every second picture."""
    return [["cat" if at % 2 else ""] * len(questions) for at in range(len(images))]


def test_nothing_of_a_method_is_forgotten() -> None:
    """Whoever gives methods a new event or flag decides here what becomes of it in a kind."""
    handed_on = {"needs_guidance", "acts_alone", "couples", "prompts", "companions", "guides_now", "conditions", "listens",
                 "tokens", "combine", "sees_denoised", "looks_at", "denoised", "check_beside", "is_neutral"}  # fmt: skip
    by_guides_now, refused, words = (
        {"guides"},
        {"values", "embeddings", "edits_embeddings"},
        {"name", "summary", "cost", "paper", "renamed"},
    )
    at_attach = {
        "for_layers"
    }  # a kind is chosen by name or function; where no layer is known, one that listens says so
    events = {name for name in vars(Method) if not name.startswith("_")}
    assert events == handed_on | by_guides_now | refused | words | at_attach
    assert handed_on <= set(vars(AdaptiveNegatives))


def test_a_kind_that_keeps_steps_free_of_guidance_does_so_from_the_step_after_the_look() -> None:
    with attach(families.build("sd15"), Quiet()) as attached:
        families.run("sd15", steps=5)
        assert attached.passes == 5
    with attach(families.build("sd15"), Interval(Window(0.0, 0.2))):
        wanted = families.run("sd15", steps=5)
    method = AdaptiveNegatives(says("cat"), kind=lambda negative: Quiet(), looks=(0.0,))
    with attach(families.build("sd15"), method) as attached:
        found = families.run("sd15", steps=5)
        assert [record.passes for record in attached.trace] == [2, 1, 1, 1, 1]
        assert all("adaptive" in record.methods for record in attached.trace[1:])
    assert torch.equal(found, wanted)
    with attach(families.build("sd15"), dataclasses.replace(method, watcher=says(""))):
        assert torch.equal(families.run("sd15", steps=5), families.run("sd15", steps=5)), "nothing seen, nothing done"
    assert not torch.equal(found, families.run("sd15", steps=5))


@pytest.mark.parametrize("family", ["sd15", "flux"])
def test_of_a_batch_only_the_images_with_a_negative_go_unguided(family: str) -> None:
    seeds = generators(1, 2)
    plain = families.run(family, steps=4, num_images_per_prompt=2, generator=generators(1, 2))
    with attach(families.build(family), Interval(Window(0.0, 0.25))):
        free = families.run(family, steps=4, num_images_per_prompt=2, generator=generators(1, 2))
    method = AdaptiveNegatives(second_only, kind=lambda negative: Quiet(), looks=(0.0,))
    with attach(families.build(family), method):
        found = families.run(family, steps=4, num_images_per_prompt=2, generator=seeds)
    assert difference(found[:1], plain[:1]) < 1e-5 and difference(found[1:], free[1:]) < 1e-5
    assert difference(free[1:], plain[1:]) > 1e-3
    hat = Negative("hat", window=Window(0.0, 0.25))
    with attach(families.build(family), PerpNeg(hat), Interval(Window(0.0, 0.25))):
        free = families.run(family, steps=4, num_images_per_prompt=2, generator=generators(1, 2))
    with attach(families.build(family), PerpNeg("hat"), method):
        found = families.run(family, steps=4, num_images_per_prompt=2, generator=generators(1, 2))
    assert difference(found[1:], free[1:]) < 1e-5, "also where a method before it has edited the guidance"


@dataclasses.dataclass(frozen=True)
class Pulls(Method):
    """Moves the clean estimate of odd steps towards zero, notes what it did, and asks for nothing."""

    name = "pulls"
    needs_guidance = False

    def looks_at(self, step: Step, state: dict[str, Any]) -> bool:
        return step.index % 2 == 1

    def denoised(self, denoised: Denoised, state: dict[str, Any]) -> None:
        assert denoised.step.index % 2 == 1, "only what it looks at"
        denoised.x0 = 0.5 * denoised.x0
        state.setdefault("notes", []).append({"pulled": denoised.step.index})


def test_a_kind_changes_the_clean_estimate_of_the_images_it_is_for_at_the_steps_it_looks_at() -> None:
    def run(*methods: Method) -> tuple[torch.Tensor, Any]:
        with attach(families.build("sd15"), *methods) as attached:
            out = families.run("sd15", steps=5, num_images_per_prompt=2, generator=generators(1, 2))
        return out, attached

    plain, pulled = run()[0], run(Pulls())[0]
    found, attached = run(AdaptiveNegatives(second_only, kind=lambda negative: Pulls(), looks=(0.0,)))
    assert difference(found[:1], plain[:1]) < 1e-5 and difference(found[1:], pulled[1:]) < 1e-5
    assert difference(pulled[1:], plain[1:]) > 1e-3
    notes = [note for record in attached.trace for note in record.notes]
    assert [note["pulled"] for note in notes if "pulled" in note] == [1, 3]


def test_a_kind_that_acts_without_asking_for_a_prediction_acts() -> None:
    wanted_from = 1

    class Late(APG):
        def combine(self, guidance: Guidance, state: dict[str, Any]) -> None:
            if guidance.step.index >= wanted_from:
                super().combine(guidance, state)

    with attach(families.build("sd15"), Late(momentum=0.0)):
        wanted = families.run("sd15", steps=4)
    method = AdaptiveNegatives(says("cat"), kind=lambda negative: APG(momentum=0.0), looks=(0.0,))
    with attach(families.build("sd15"), method) as attached:
        found = families.run("sd15", steps=4)
    assert "adaptive" in attached.trace[-1].methods and difference(found, wanted) < 1e-5
    assert difference(found, families.run("sd15", steps=4)) > 1e-3


def test_flags_and_fixed_conditions_are_those_of_the_kind() -> None:
    @dataclasses.dataclass(frozen=True)
    class Companion(Method):
        text: str | Any = "x"
        needs_guidance = False
        acts_alone = False

        def companions(self) -> Sequence[Condition]:
            return (Condition("fixed"), Condition(self.text))

        def prompts(self) -> Sequence[Condition]:
            return (Condition("base"), Condition(self.text))

    for kind, flags in (
        (lambda negative: PerpNeg(negative), (True, False, False)),
        (lambda negative: SPELL(), (False, True, True)),
        (lambda negative: Companion(), (False, False, False)),
        (lambda negative: Quiet(), (True, True, False)),
        (lambda negative: APG(), (True, True, False)),
    ):
        method = AdaptiveNegatives("toybox", kind=kind)  # type: ignore[arg-type]
        assert (method.needs_guidance, method.acts_alone, method.couples) == flags
    method = AdaptiveNegatives("toybox", kind=lambda negative: Companion(negative.prompt))
    assert list(method.companions()) == [Condition("fixed")] and list(method.prompts()) == [Condition("base")]
    assert not AdaptiveNegatives("toybox").acts_alone and not AdaptiveNegatives("toybox").companions()
    with pytest.raises(ValueError, match="choose kind='signed'"):
        attach(
            families.build("sd15"), AdaptiveNegatives("toybox", kind=NegativePrompt), NegativePrompt(Negative("hat"))
        )
