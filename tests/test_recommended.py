"""The recommended negative is the method that it says, by the pipeline at hand."""

from __future__ import annotations

import dataclasses

import families
import pytest
import torch
from diffusers import DiffusionPipeline

import negguide as ng
from negguide.engine.composition import composed
from negguide.methods.recommended import BESIDE_GUIDANCE, EARLY
from negguide.pipeline.families import family_of


def run(name: str, *methods: ng.Method, **more: object) -> torch.Tensor:
    with ng.attach(families.build(name), *methods):
        return families.run(name, steps=4, **more)


@pytest.mark.parametrize(("name", "kind"), [("sd15", "cross"), ("sd3", "joint")])
def test_beside_guidance_it_is_nag_in_the_first_half(name: str, kind: str) -> None:
    by_hand = ng.NAG(ng.Negative("cat", 0.7, EARLY), **BESIDE_GUIDANCE[kind])
    recommended = run(name, ng.negatives(("cat", 0.7)))
    assert torch.equal(recommended, run(name, by_hand)) and not torch.equal(recommended, run(name))
    own = ng.Window(0.5, 1.0)
    windowed = run(name, ng.negatives(ng.Negative("cat", window=own)))
    assert torch.equal(windowed, run(name, ng.NAG(ng.Negative("cat", window=own), **BESIDE_GUIDANCE[kind])))


def test_without_guidance_it_is_nag_at_the_familys_strength() -> None:
    recommended = run("sd15", ng.negatives("cat", "hat"), guidance_scale=1.0)
    assert torch.equal(recommended, run("sd15", ng.NAG(["cat", "hat"]), guidance_scale=1.0))
    assert not torch.equal(recommended, run("sd15", guidance_scale=1.0))


def test_where_attention_is_not_known_it_is_perp_neg() -> None:
    pipe = families.build("lumina")
    layers = family_of(type(pipe)).layers
    if any(rule.kind != "self" for rule in layers):
        pytest.skip("the layers of this family are known by now")
    assert torch.equal(run("lumina", ng.negatives("cat")), run("lumina", ng.PerpNeg("cat")))


def test_a_pipeline_of_no_known_family_is_chosen_for_by_its_denoiser() -> None:
    """Somebody's own pipeline class around a UNet that is known."""

    class Bare(DiffusionPipeline):
        def __init__(self, unet: object, scheduler: object) -> None:
            super().__init__()
            self.register_modules(unet=unet, scheduler=scheduler)

    parts = families.build("sd15").components
    pipe = Bare(parts["unet"], parts["scheduler"])
    assert family_of(Bare).layers == ()
    assert composed([ng.negatives("cat")], pipe, family_of(Bare)) == (ng.negatives("cat"),)
    pipe.unet = torch.nn.Identity()
    assert composed([ng.negatives("cat")], pipe, family_of(Bare)) == (ng.PerpNeg("cat"),)


def test_the_choice_by_layers() -> None:
    method = ng.negatives("cat", ("hat", 0.5))
    assert method.for_layers({"cross", "self"}) is method and method.for_layers({"joint"}) is method
    for kinds in (set(), {"self"}):
        assert method.for_layers(kinds) == ng.PerpNeg(["cat", ("hat", 0.5)])
    assert ng.PerpNeg("cat").for_layers({"cross"}) == ng.PerpNeg("cat")


def test_ways_to_write_it() -> None:
    assert ng.negatives("cat") == ng.Recommended("cat") == ng.from_json(ng.to_json(ng.negatives("cat")))
    assert ng.negatives("cat", ("hat", 0.5)) == ng.negatives(["cat", ("hat", 0.5)])
    assert dataclasses.replace(ng.Recommended("cat")).negatives[0].prompt == "cat"
    with pytest.raises(ValueError, match="at least one"):
        ng.negatives()
