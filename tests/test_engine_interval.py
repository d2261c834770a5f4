"""Steps that a method keeps free of guidance: one pass, the prompt's prediction, no other method asked."""

from __future__ import annotations

import families
import pytest
import torch

from negguide.engine import attach
from negguide.methods import Interval, Method, NegativePrompt, PerpNeg, Window

UNGUIDED = {"sd15": {"guidance_scale": 1.0}, "sd3": {"guidance_scale": 1.0}, "flux": {"true_cfg_scale": 1.0}}


@pytest.mark.parametrize("family", UNGUIDED)
def test_never_guided_is_the_call_without_guidance(family: str) -> None:
    expected = families.run(family, **UNGUIDED[family])
    for methods in ([Interval((0.5, 0.5))], [PerpNeg("hat"), Interval((0.5, 0.5))], [Interval((0, 0)), PerpNeg("hat")]):
        with attach(families.build(family), *methods) as attached:
            found = families.run(family)
        assert attached.passes == len(attached.trace)
        assert float((found - expected).abs().max()) < 2e-4 * float(expected.abs().max())


@pytest.mark.parametrize("family", ["sd15", "wan", "zimage"])
@pytest.mark.parametrize("negative", [PerpNeg("hat"), NegativePrompt("hat")])
def test_passes_are_saved_outside(family: str, negative: Method) -> None:
    with attach(families.build(family), negative, Interval((0.0, 0.5))) as attached:
        found = families.run(family)
    with attach(families.build(family), negative) as whole:
        everywhere = families.run(family)
    half = sum(Window(0.0, 0.5).start <= record.index / len(attached.trace) < 0.5 for record in attached.trace)
    per_step = whole.passes / len(whole.trace)
    assert attached.passes == half * per_step + len(attached.trace) - half
    assert [record.passes for record in attached.trace] == [per_step] * half + [1.0] * (len(attached.trace) - half)
    assert not torch.equal(found, everywhere)
