"""The engine on stock pipelines: identity, restoring, passes, batches, errors at a step."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import families
import pytest
import torch

from negguide.engine import attach
from negguide.engine.finite import FiniteGuard
from negguide.methods import (
    OWN,
    UNCONDITIONAL,
    Condition,
    Guidance,
    Interval,
    Method,
    Negative,
    NegativePrompt,
    PerpNeg,
    Rescale,
    Step,
    Window,
)

ALL = list(families.FAMILIES)
NEUTRAL = PerpNeg(Negative("cat", 0.0))
ACTIVE = PerpNeg(["cat", Negative("hat", 0.6)])


@dataclasses.dataclass(frozen=True)
class Probing(Method):
    """Asks for conditions and changes nothing."""

    wanted: tuple[Condition, ...] = (UNCONDITIONAL,)
    kept: list[Any] = dataclasses.field(default_factory=list)
    since: int = 0

    def conditions(self, step: Step, state: dict[str, Any]) -> tuple[Condition, ...]:
        return self.wanted if step.index >= self.since else ()

    def combine(self, guidance: Guidance, state: dict[str, Any]) -> None:
        self.kept.append((guidance, state))


@dataclasses.dataclass(frozen=True)
class Failing(Method):
    """Raises in the middle of sampling."""

    def combine(self, guidance: Guidance, state: dict[str, Any]) -> None:
        if guidance.step.index == 1:
            raise ArithmeticError("in the middle")


@dataclasses.dataclass(frozen=True)
class Poison(Method):
    """Predicts NaN at one step."""

    name = "poison"

    def combine(self, guidance: Guidance, state: dict[str, Any]) -> None:
        if guidance.step.index == 1:
            guidance.offset = guidance.cond * float("nan")


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 2e-5) -> bool:
    return float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())


@pytest.mark.parametrize("name", ALL)
def test_neutral_settings_and_detach_are_bit_equal(name: str) -> None:
    pipe = families.build(name)
    classes = {key: type(part) for key, part in pipe.components.items()} | {"pipe": type(pipe)}
    plain = families.run(name)
    for method in (NEUTRAL, Interval(Window()), Rescale(0.0)):
        with attach(pipe, method) as attached:
            assert torch.equal(families.run(name), plain), method
        assert attached.passes == 2 * len(attached.trace)
    with attach(pipe, ACTIVE):
        assert not torch.equal(families.run(name), plain)
    assert torch.equal(families.run(name), plain)
    assert classes == {key: type(part) for key, part in pipe.components.items()} | {"pipe": type(pipe)}
    parts = [pipe, pipe.scheduler, getattr(pipe, families.FAMILIES[name].denoiser)]
    assert not any(key.startswith("_negguide") for part in parts for key in vars(part))


@pytest.mark.parametrize("name", ALL)
def test_an_exception_in_the_middle_leaves_everything_usable(name: str) -> None:
    pipe = families.build(name)
    plain = families.run(name)
    attached = attach(pipe, Failing(), ACTIVE)
    with pytest.raises(ArithmeticError, match="in the middle"):
        families.run(name)
    assert type(getattr(pipe, families.FAMILIES[name].denoiser)).__dict__.get("_negguide_base") is None
    with pytest.raises(ArithmeticError, match="in the middle"):
        families.run(name)
    attached.detach()
    attached.detach()
    assert torch.equal(families.run(name), plain)
    with attach(pipe, NEUTRAL):
        assert torch.equal(families.run(name), plain)


@pytest.mark.parametrize("name", ALL)
def test_image_of_a_batch_equals_image_alone(name: str) -> None:
    pipe = families.build(name)
    prompts = ["a pet on grass", "one red apple"]
    # Inpainting encodes its picture once, with the first generator: the same seed for both images then.
    seeds = [0, 0] if name == "inpaint" else [0, 1]

    def pictures() -> tuple[torch.Tensor, list[torch.Tensor]]:
        both = families.run(name, prompt=prompts, generator=[torch.Generator().manual_seed(s) for s in seeds])
        return both, [families.run(name, prompt=[prompt], seed=s) for s, prompt in zip(seeds, prompts, strict=True)]

    families.skip_where_stock_mixes_prompts(name, *pictures(), 1e-4)
    with attach(pipe, ACTIVE):
        both, alone = pictures()
        single = families.run(name, prompt=prompts[1], seed=seeds[1])
    # Z-Image pads texts of one batch to a common length and masks them; rounding differs a little more there.
    for i, image in enumerate(alone):
        assert close(both[i : i + 1], image, 1e-4), i
    assert torch.equal(single, alone[1])


@pytest.mark.parametrize("name", ALL)
def test_passes_are_exact(name: str) -> None:
    pipe = families.build(name)
    n = 2 if name == "img2img" else 3
    negative = ["cat"]
    cases: list[tuple[Method, list[float]]] = [
        (NEUTRAL, [2] * n),
        (NegativePrompt(negative), [2] * n),
        (NegativePrompt(negative, mode="signed"), [3] * n),
        (PerpNeg(negative), [3] * n),
        (PerpNeg(["cat", "hat"]), [4] * n),
        (PerpNeg(Negative("cat", window=Window(0.0, 0.4))), [3, *[2] * (n - 1)] if n == 2 else [3, 3, 2]),
        (PerpNeg(Negative("cat", window=Window(0.0, 0.3))), [3, *[2] * (n - 1)]),
        (Probing((UNCONDITIONAL,)), [2] * n),
    ]
    for method, expected in cases:
        with attach(pipe, method) as attached:
            families.run(name)
        assert [record.passes for record in attached.trace] == expected, method
        assert attached.passes == sum(expected)
    with attach(pipe, PerpNeg(negative), NegativePrompt(negative, mode="signed")) as attached:
        families.run(name)
    assert attached.passes == 3 * n, "equal conditions of two methods share one pass"


def test_trace_says_what_happened() -> None:
    with attach(families.build("sd15"), PerpNeg(Negative("cat", window=Window(0.0, 0.4)))) as attached:
        families.run("sd15", steps=4)
        assert attached.runs == 1
        families.run("sd15", steps=5)
    assert attached.runs == 2 and len(attached.trace) == 5
    first, last = attached.trace[0], attached.trace[-1]
    assert first.methods == ("perp_neg",) and Condition("cat") in first.conditions and first.passes == 3
    assert last.methods == () and last.conditions == () and last.passes == 2
    assert first.sigma > last.sigma and first.timestep > last.timestep and last.index == 4


def test_own_and_unconditional_are_told_apart() -> None:
    pipe = families.build("sd15")
    probing = Probing((UNCONDITIONAL, OWN))
    with attach(pipe, probing) as attached:
        plain = families.run("sd15")
        assert attached.passes == 6, "an empty negative prompt is the unconditional: its rows serve"
        guidance = probing.kept[0][0]
        assert torch.equal(guidance[OWN], guidance[UNCONDITIONAL]) and torch.equal(guidance[OWN], guidance.base)
        probing.kept.clear()
        families.run("sd15", negative_prompt="a hat")
        assert attached.passes == 9
        guidance = probing.kept[0][0]
        assert not torch.equal(guidance[OWN], guidance[UNCONDITIONAL])
    assert torch.equal(plain, families.run("sd15"))


def test_a_replacing_negative_is_the_negative_prompt_of_the_call() -> None:
    for name in ALL:
        if name == "klein":
            continue  # takes no negative prompt
        pipe = families.build(name)
        more = {"negative_prompt": "a cat"}
        expected = families.run(name, **more)
        with attach(pipe, NegativePrompt(["a cat"])) as attached:
            found = families.run(name)
            assert attached.passes == 2 * len(attached.trace), name
            assert close(found, expected, 1e-5), name
            same = families.run(name, **more)
            assert attached.passes == 2 * len(attached.trace), name
        assert close(same, expected, 1e-5), f"{name}: it already stands there, so nothing changes"


@pytest.mark.parametrize("name", ["sd15", "flux"])
def test_a_base_that_no_method_edits_still_stands_in_the_place(name: str) -> None:
    pipe = families.build(name)
    with attach(pipe, Probing((Condition("a cat", role="base"),))) as attached:
        found = families.run(name)
    assert attached.passes == 6
    assert close(found, families.run(name, negative_prompt="a cat"), 1e-5)


def test_two_methods_compose_and_order_matters() -> None:
    pipe = families.build("sd15")
    with attach(pipe, PerpNeg(["cat"])):
        one = families.run("sd15")
    with attach(pipe, PerpNeg(["cat"]), Rescale(0.7)):
        two = families.run("sd15")
    with attach(pipe, NegativePrompt(["hat"]), PerpNeg(["cat"])) as attached:
        three = families.run("sd15")
        assert attached.passes == 12
    assert not torch.equal(one, two) and not torch.equal(one, three)


def test_state_is_fresh_in_every_call_and_apart_for_every_method() -> None:
    first, second = Probing(), Probing()
    with attach(families.build("sd15"), first, second):
        families.run("sd15")
        families.run("sd15")
    states = [state for _, state in first.kept]
    assert states[0] is states[2] and states[0] is not states[3]
    assert states[0] is not second.kept[0][1]


def test_max_batch_splits_without_changing_the_result() -> None:
    pipe = families.build("sd15")
    with attach(pipe, ACTIVE) as attached:
        whole = families.run("sd15", prompt=["a", "b"])
        passes = attached.passes
    seen: list[int] = []
    hook = pipe.unet.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])) if args else None)
    hook_named = pipe.unet.register_forward_pre_hook(
        lambda _, args, named: None if args else seen.append(len(named["sample"])), with_kwargs=True
    )
    try:
        for rows, forwards in ((1, [1] * 8), (2, [2] * 4), (4, [4, 4]), (6, [6, 2]), (None, [4, 4])):
            seen.clear()
            with attach(pipe, ACTIVE, max_batch=rows) as attached:
                assert close(families.run("sd15", prompt=["a", "b"]), whole)
            assert attached.passes == passes
            assert seen == forwards * 3, "at most max_batch, and by itself no more than the pipeline's own"
        seen.clear()
        with attach(pipe, ACTIVE, one_call=True):
            assert close(families.run("sd15", prompt=["a", "b"]), whole)
        assert seen == [8] * 3
    finally:
        hook.remove()
        hook_named.remove()


@pytest.mark.parametrize("deferred", [False, True])
def test_only_what_a_method_broke_is_blamed_on_it(deferred: bool) -> None:
    guard = FiniteGuard(deferred)
    good, bad = torch.zeros(2), torch.tensor([0.0, float("inf")])
    guard.check(good, (good,), "fine", 0)
    guard.check(bad, (good, bad), "given", 1)
    guard.finish()
    with pytest.raises(FloatingPointError, match=r"guilty.*step 2"):
        guard.check(bad, (good,), "guilty", 2)
        guard.finish()


@pytest.mark.parametrize("name", ["sd15", "sdxl", "flux", "zimage", "img2img", "controlnet"])
def test_a_condition_that_was_not_announced_is_encoded_while_running(name: str) -> None:
    pipe, wanted = families.build(name), (UNCONDITIONAL, Condition("cat"))

    def run() -> torch.Tensor:
        torch.manual_seed(2)
        return families.run(name, generator=None)

    plain, late, known = run(), Probing(wanted, since=1), Probing(wanted)
    with attach(pipe, late) as attached:
        assert close(run(), plain), "asking in mid-run does not disturb the run"
    assert [record.passes for record in attached.trace] == [2, *[3] * (len(attached.trace) - 1)]
    with attach(pipe, PerpNeg(Negative("cat", 1e-12)), known):
        run()
    first, second = late.kept[1][0][Condition("cat")], known.kept[1][0][Condition("cat")]
    assert close(first, second, 1e-4)


def test_guidance_scale_is_measured() -> None:
    expected = {"zimage": 6.0}
    for name in ALL:
        watch = Probing()
        with attach(families.build(name), watch):
            families.run(name)
            families.run(name, **{families.FAMILIES[name].scale: 3.25})
        scales = [guidance.plain_scale for guidance, _ in watch.kept]
        assert scales[0] == pytest.approx(expected.get(name, 5.0), rel=1e-6), name
        assert scales[-1] == pytest.approx(4.25 if name == "zimage" else 3.25, rel=1e-6), name


def test_second_scale_of_wan_2_2() -> None:
    watch = Probing()
    with attach(families.build("wan22"), watch):
        families.run("wan22", guidance_scale_2=2.0)
    assert [guidance.plain_scale for guidance, _ in watch.kept] == [5.0, 2.0, 2.0]


def test_two_attached_pipelines_that_share_their_parts_are_independent() -> None:
    first = families.build("sd15")
    second = copy.copy(first)
    second.scheduler = copy.deepcopy(first.scheduler)
    plain = families.run("sd15", first)
    with attach(first, ACTIVE):
        expected = families.run("sd15", first)
        with attach(second, NEUTRAL):
            assert torch.equal(families.run("sd15", second), plain)
            assert torch.equal(families.run("sd15", first), expected)
        assert torch.equal(families.run("sd15", second), plain)
    assert torch.equal(families.run("sd15", first), plain)
