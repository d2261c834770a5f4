"""NegToMe in pipelines, against hooks written by hand that go token by token, without negguide."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import families
import numpy as np
import pytest
import torch
from listeners import Listener
from negtome_parts import ALWAYS, MODULES, close, first, from_all, hooked, run
from test_maths_negtome import by_hand, released_by_hand
from test_negtome_pictures import Eye, colours
from torch import Tensor

from negguide.engine import attach
from negguide.methods import Avoid, Bank, Mask, NegToMe, PerpNeg, Window, from_json, to_json


@pytest.mark.parametrize("family", MODULES)
def test_first_equals_hooks_by_hand(family: str) -> None:
    with hooked(family, first(by_hand, 0.9, 0.5), 2):
        expected = run(family, steps=2)
    method = NegToMe("first", 0.9, 0.5, ALWAYS)
    with attach(families.build(family.split(",")[0]), method) as attached:
        found = run(family, steps=2)
    plain = run(family, steps=2)
    assert close(found, expected)
    assert torch.allclose(found[:1], plain[:1], atol=1e-4 * float(plain.abs().max())), "the first stays as it is"
    assert not close(found[1:], plain[1:])
    assert attached.passes == (1 if "no guidance" in family else 2) * 2


@pytest.mark.parametrize("family", ["sd15", "flux", "sd3"])
def test_all_equals_hooks_by_hand(family: str) -> None:
    with hooked(family, from_all(0.7, 0.5), 3):
        expected = run(family, steps=2, images=3)
    with attach(families.build(family), NegToMe("all", 0.7, 0.5, ALWAYS)):
        found = run(family, steps=2, images=3)
    assert close(found, expected)
    assert not close(found[:1], run(family, steps=2, images=3)[:1])


@pytest.mark.parametrize("family", ["sd15", "flux"])
def test_release_equals_hooks_by_hand_and_differs_from_the_paper(family: str) -> None:
    with hooked(family, first(released_by_hand, 0.9, 0.3), 2, before_projection=family == "flux"):
        expected = run(family, steps=2)
    found = {}
    for match in ("paper", "release"):
        with attach(families.build(family), NegToMe("first", 0.9, 0.3, ALWAYS, match=match)):
            found[match] = run(family, steps=2)
    assert close(found["release"], expected)
    assert not close(found["paper"], found["release"])


@pytest.mark.parametrize("placement", ["attention", "layer"])
@pytest.mark.parametrize("family", ["sd15", "flux", "sd3"])
def test_it_acts_before_or_behind_the_projection(family: str, placement: Any) -> None:
    with hooked(family, first(by_hand, 0.9, 0.5), 2, before_projection=placement == "attention"):
        expected = run(family, steps=2)
    with attach(families.build(family), NegToMe("first", 0.9, 0.5, ALWAYS, placement=placement)):
        assert close(run(family, steps=2), expected)
    with attach(families.build(family), NegToMe("first", 0.9, 0.5, ALWAYS)):
        assert close(run(family, steps=2), expected) == (placement == "layer")


@pytest.mark.parametrize("reference", ["first", "all"])
@pytest.mark.parametrize("family", MODULES)
def test_a_group_of_a_batch_equals_its_prompt_alone(family: str, reference: str) -> None:
    prompts = ["a pet on grass", "one red apples"]
    with attach(families.build(family.split(",")[0]), NegToMe(reference, 0.9, 0.5, ALWAYS)):
        if family == "flux":
            both = run(family, prompt=prompts, steps=2, negative_prompt=["", ""])
        else:
            both = run(family, prompt=prompts, steps=2)
        for i, prompt in enumerate(prompts):
            alone = run(family, prompt=prompt, steps=2, seed=2 * i)
            assert torch.allclose(both[2 * i : 2 * i + 2], alone, atol=5e-4 * float(alone.abs().max()))


def test_repeated_texts_in_a_list_are_one_group() -> None:
    with attach(families.build("sd15"), NegToMe("all", 0.9, 0.5, ALWAYS)):
        several = run("sd15", steps=2, images=2)
        listed = run("sd15", steps=2, images=1, prompt=["a pet on grass"] * 2)
    assert close(several, listed)


@pytest.mark.parametrize(
    "neutral",
    [
        NegToMe(alpha=0.0),
        NegToMe("all", threshold=1.0),
        NegToMe(window=Window(0.3, 0.3)),
        NegToMe(families.picture(), alpha=0.0),
        NegToMe(families.picture(), window=Window(0, 0)),
    ],
)
@pytest.mark.parametrize("family", ["sd15", "flux", "klein"])
def test_neutral_settings_are_plain_and_without_hooks(
    family: str, neutral: NegToMe, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = run(family)
    monkeypatch.setattr(torch.nn.Module, "register_forward_hook", lambda *a, **k: pytest.fail("a hook was set"))
    with attach(families.build(family), neutral) as attached:
        assert torch.equal(run(family), plain)
    assert attached.passes == 2 * len(attached.trace) and attached.trace[0].methods == ()


def test_one_image_a_prompt_is_told_to_have_no_effect() -> None:
    with attach(families.build("sd15"), NegToMe("all", window=ALWAYS)):
        with pytest.warns(UserWarning, match="one image only") as told:
            found = run("sd15", images=1)
        assert len(told) == 1
    assert torch.equal(found, run("sd15", images=1))


def test_attraction_goes_the_other_way() -> None:
    distance = {}
    for alpha in (-0.5, 0.0, 0.5):
        with attach(families.build("sd15"), NegToMe("first", alpha, -1.0, ALWAYS, kinds=("self", "cross"))):
            found = run("sd15", steps=2)
        distance[alpha] = float((found[0] - found[1]).norm())
    assert distance[-0.5] < distance[0.0] < distance[0.5]


def test_alpha_goes_from_one_value_to_the_other_within_the_window() -> None:
    method = NegToMe(alpha=1.0, alpha_stop=0.0, window=Window(0.0, 0.5), threshold=0.0)
    steps = [_step(i / 10) for i in range(5)]
    assert [round(method._alpha(step, method._strength(step)), 6) for step in steps] == [1.0, 0.8, 0.6, 0.4, 0.2]
    flow = NegToMe(alpha=1.0, alpha_stop=2.0, window=Window(1.0, 0.5, "sigma"))
    assert flow._alpha(_step(0, sigma=0.75), flow._strength(_step(0))) == pytest.approx(1.5)


def _step(progress: float, sigma: float = 1.0, kind: str = "epsilon") -> Any:
    from negguide.methods import Step

    same = lambda v: v  # noqa: E731
    return Step(round(progress * 10), 10, sigma, 0.0, torch.zeros(1), kind, same, same, same)


def test_defaults_are_those_of_the_family() -> None:
    diffusion, flow = (NegToMe()._strength(_step(0, kind=kind)) for kind in ("epsilon", "flow"))
    assert (diffusion.alpha, diffusion.threshold, diffusion.window) == (0.9, 0.7, Window(0.0, 0.2))
    assert (flow.alpha, flow.threshold, flow.window) == (0.9, 0.65, Window(1.0, 0.9, "sigma"))
    with attach(families.build("flux"), NegToMe()) as attached:
        run("flux", steps=10)
    at_work = [record for record in attached.trace if "negtome" in record.methods]
    assert at_work and all(record.sigma > 0.9 for record in at_work) and len(at_work) < 10


def test_the_masked_part_of_the_result_stays() -> None:
    """At the last tapped layer, tokens outside the mask are those without the method."""
    left = np.zeros((32, 32), dtype=np.uint8)
    left[:, :16] = 255
    pipe = families.build("pixart")
    name = "transformer_blocks.1.attn1"
    kept: dict[str, Tensor] = {}
    for key, mask in {"whole": None, "left": Mask(left), "none": Mask(np.zeros((4, 4), dtype=np.uint8))}.items():
        method = NegToMe("first", 0.9, -1.0, Window(0, 0.4), mask=mask, layers=(name,))
        seen, spy = spying(name)
        with attach(pipe, method, spy):
            run("pixart", steps=2)
        kept[key] = seen[0].unflatten(1, (8, 8))
    assert torch.equal(kept["left"][1, :, :3], kept["whole"][1, :, :3])
    assert torch.equal(kept["left"][1, :, 5:], kept["none"][1, :, 5:])
    assert not torch.equal(kept["left"][1, :, 5:], kept["whole"][1, :, 5:])


def spying(name: str) -> tuple[list[Tensor], Listener]:
    """What methods before it have made of the prompt's tokens in a layer."""
    seen: list[Tensor] = []
    return seen, Listener(lambda tokens: seen.append(tokens["cond"].clone()), layers=lambda layer: layer.name == name)


def test_composes_with_perp_neg() -> None:
    with attach(families.build("sd15"), NegToMe("all", 0.9, 0.5, ALWAYS), PerpNeg("cat")) as attached:
        found = run("sd15")
    assert found.isfinite().all() and attached.trace[0].methods == ("perp_neg", "negtome")


def test_json_round_trip(tmp_path: Path) -> None:
    colours(tmp_path)
    mask = np.full((4, 4), 255, dtype=np.uint8)
    for method in (
        NegToMe(),
        NegToMe("all", 1.5, 0.6, (0.0, 0.4), alpha_stop=0.1, match="release", mask=mask, layers="up_blocks"),
        NegToMe([Avoid(tmp_path / "a red.png", mask), tmp_path / "b green.png"], -0.5, noise="clean", seed=4),
        NegToMe(families.picture()),
        NegToMe(Bank(str(tmp_path), "toybox", count=2)),
    ):
        assert from_json(to_json(method)) == method
    with pytest.raises(TypeError, match="give its clip by name"):
        to_json(NegToMe(Bank(str(tmp_path), Eye())))


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: NegToMe("frist"), ValueError, "possible: 'first', 'all'"),
        (lambda: NegToMe([]), ValueError, "at least one picture"),
        (lambda: NegToMe(3), TypeError, "possible: 'first', 'all'"),
        (lambda: NegToMe(match="best"), ValueError, "possible: 'paper', 'release'"),
        (lambda: NegToMe(noise="random"), ValueError, "possible: 'fixed', 'clean', 'inverted'"),
        (lambda: NegToMe(alpha=float("nan")), ValueError, "finite"),
        (lambda: NegToMe(threshold=-2), ValueError, "threshold is -2"),
        (lambda: NegToMe(kinds=("temporal",)), ValueError, "'self', 'cross', 'joint'"),
        (lambda: NegToMe(Avoid("a.png", np.ones((2, 2), bool)), match="release"), ValueError, "match='paper'"),
        (lambda: Bank("x", None), TypeError, "name of an open_clip model"),
        (lambda: Bank("x", "toybox", count=0), ValueError, "at least 1"),
        (lambda: Bank("/nowhere", Eye()).open(), FileNotFoundError, "holds no picture"),
    ],
)
def test_errors_teach(make: Callable[[], Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make()


def test_layers_that_fit_nothing_are_told_with_what_there_is() -> None:
    told = pytest.raises(ValueError, match=r"there are down_blocks.1.attentions.0.*attn1 \(self\)")
    with attach(families.build("sd15"), NegToMe(layers="encoder", window=ALWAYS)), told:
        run("sd15")
