"""Texts inside the denoiser: companions, layers asked again, appended texts and their values."""

from __future__ import annotations

from typing import Any

import families
import pytest
import torch
from listeners import CAT, Listener, Spy, Weigher, same
from torch import Tensor

from negguide.engine import Unsupported, attach
from negguide.methods.tokens import Tokens, Values

SINGLE = {"sd15": {"guidance_scale": 1.0}, "flux": {"true_cfg_scale": 1.0, "negative_prompt": None}}


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("family", ["sd15", "sdxl", "flux", "pixart", "sd3", "wan"])
def test_companions_ride_with_the_prompt(family: str, guided: bool) -> None:
    pipe = families.build(family)
    call = {} if guided else SINGLE.get(family, {families.FAMILIES[family].scale: 1.0})
    plain = families.run(family, **call)
    listener = Listener(ask={"companions": (CAT,)})
    with attach(pipe, listener) as attached:
        found = families.run(family, **call)
    assert torch.allclose(found, plain, atol=1e-4 * float(plain.abs().max())), "companions change nothing by themselves"
    assert attached.passes == (3 if guided else 2) * 3
    with_cat = [t for t in listener.heard if CAT in t]
    assert with_cat and all("cond" in t and t.companions == (CAT,) for t in with_cat)
    last = [t for t in with_cat if t.layer.kind != "self"][-1]
    assert not torch.equal(last[CAT], last["cond"]), "another text"
    # The companion is what the layer says when "cat" is the prompt itself.
    alone = Listener()
    with attach(pipe, alone):
        families.run(family, **{**call, "prompt": "cat"})
    first = next(t for t in with_cat if t.layer.kind != "self")
    mate = next(t for t in alone.heard if t.layer == first.layer and "cond" in t)
    if with_cat[0].layer.kind == "self":
        assert torch.allclose(with_cat[0][CAT], with_cat[0]["cond"], atol=1e-6), (
            "the image stream is the prompt's, up to rounding"
        )
    # Elsewhere pooled text vectors, which stay the prompt's, shape the image stream.
    if family in ("sd15", "pixart") or (family == "wan" and not guided):
        assert torch.allclose(first[CAT], mate["cond"], atol=1e-5)


CROSS = ["sd15", "pixart", "sana", "wan"]


@pytest.mark.parametrize("placement", ["layer", "attention"])
@pytest.mark.parametrize("name", CROSS)
def test_a_layer_asked_with_another_text_says_what_a_companion_row_says(name: str, placement: Any) -> None:
    pipe = families.build(name)
    asked: list[tuple[Tensor, Tensor]] = []

    def edit(tokens: Tokens) -> None:
        if tokens.layer.kind == "cross" and "cond" in tokens:
            own = tokens.attend_to("cond")
            assert torch.allclose(own, tokens["cond"], atol=1e-5)
            asked.append((tokens.attend_to(CAT), tokens[CAT]))

    listener = Listener(edit, when=lambda step: step.index == 0, ask={"companions": (CAT,), "placement": placement})
    with attach(pipe, listener):
        families.run(name, steps=2)
    # At the first cross layer, cond and companion have the same image tokens.
    first = next(tokens for tokens in listener.heard if tokens.layer.kind == "cross" and "cond" in tokens)
    assert torch.allclose(*asked[0], atol=1e-5) and not torch.allclose(asked[0][0], first["cond"])
    heard = [tokens for tokens in listener.heard if tokens.layer.kind == "cross" and "cond" in tokens]
    assert len(heard) == len(asked), "asking is not heard"


def test_again_is_refused_at_other_layers() -> None:
    listener = Listener(lambda tokens: tokens.attend_to("cond"), layers=lambda layer: layer.kind == "self")
    with attach(families.build("sd15"), listener), pytest.raises(ValueError, match="only cross layers"):
        families.run("sd15", steps=1)


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("family", ["sd15", "sd3", "flux", "pixart", "wan"])
def test_appended_texts_and_their_values(family: str, guided: bool) -> None:
    pipe = families.build(family)
    call = {} if guided else SINGLE.get(family, {families.FAMILIES[family].scale: 1.0})
    plain = families.run(family, **call)
    seen: list[Values] = []

    def weigh(values: Values) -> None:
        seen.append(values)
        if "cond" in values:
            own, other = values.part(), values.part(CAT)
            assert other.start == 0 < other.stop == own.start and own.stop == values["cond"].shape[1]
            changed = values["cond"].clone()
            changed[:, other] *= -3.0
            values["cond"] = changed

    spies = []
    for weigher in (Weigher(ask={"appended": (CAT,)}), Weigher(ask={"appended": (CAT,)}, weigh=weigh)):
        spy = Spy()
        with attach(pipe, weigher, *((spy,) if guided else ())):
            found = families.run(family, **call)
        assert found.isfinite().all() and not torch.allclose(found, plain)
        spies.append(spy.seen[0] if guided else found)
    kinds = {t.layer.kind for t in seen}
    assert kinds and "self" not in kinds
    if guided:
        assert torch.allclose(spies[0][1], spies[1][1], atol=1e-5), "the unconditional has neither text nor weight"
        assert not torch.allclose(spies[0][0], spies[1][0])


def test_fused_projections_are_refused_for_values() -> None:
    pipe = families.sd15_fused() if hasattr(families, "sd15_fused") else families.build.__wrapped__("sd15")
    pipe.fuse_qkv_projections()
    with attach(pipe, Weigher()), pytest.raises(Unsupported, match="unfuse_qkv_projections"):
        families.run("sd15", pipe=pipe, steps=1)
    with attach(pipe, Listener(same)):
        families.run("sd15", pipe=pipe, steps=1)
