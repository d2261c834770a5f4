"""What cannot be guided is refused by name, with the reason and what is possible; nothing fails in silence."""

from __future__ import annotations

import copy
from typing import Any

import families
import pytest
import torch
from diffusers import (
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPAGPipeline,
)

from negguide.engine import Unsupported, attach
from negguide.methods import Method, PerpNeg, Rescale
from negguide.pipeline.guidance import measured_scale, read_mode
from negguide.pipeline.probe import Probe, RecordedCall

ACTIVE = PerpNeg("cat")


def remade(cls: type, **more: Any) -> Any:
    parts = families.build("sd15").components
    return cls(**{**parts, **more}, requires_safety_checker=False)


def test_three_way_pipelines_are_refused_by_name() -> None:
    with pytest.raises(
        Unsupported, match=r"StableDiffusionPAGPipeline.*third prediction.*Supported: .*Stable Diffusion"
    ):
        attach(remade(StableDiffusionPAGPipeline), ACTIVE)
    with pytest.raises(Unsupported, match=r"InstructPix2Pix.*three directions"):
        attach(remade(StableDiffusionInstructPix2PixPipeline), ACTIVE)


@pytest.mark.parametrize("name", ["LTX2Pipeline", "OmniGenPipeline"])
def test_pipelines_refused_by_their_class(name: str) -> None:
    pipe = copy.copy(families.build("sd15"))
    object.__setattr__(pipe, "__class__", type(name, (type(pipe),), {"__module__": "diffusers.pipelines"}))
    with pytest.raises(Unsupported, match=name):
        attach(pipe, ACTIVE)


def test_pipelines_with_a_guider_are_refused() -> None:
    pipe = copy.copy(families.build("sd15"))
    pipe.__dict__["guider"] = object()
    with pytest.raises(Unsupported, match="guider"):
        attach(pipe, ACTIVE)


def test_unknown_row_layouts_are_refused() -> None:
    answer = torch.zeros(3, 4, 8, 8)
    found = Probe([RecordedCall("unet", {}, answer)], answer[:1], answer[:1])
    with pytest.raises(Unsupported, match=r"asks its denoiser for \[3\] rows"):
        read_mode(found, "SomePipeline")


def test_formulas_that_are_not_affine_are_refused() -> None:
    cond, uncond = torch.randn(2, 1, 4, 8, 8)
    assert measured_scale(-(uncond + 3 * (cond - uncond)), cond, uncond) == (3.0, -1.0)
    assert measured_scale(cond + 3 * (cond - uncond), cond, uncond) == (4.0, 1.0)
    with pytest.raises(Unsupported, match="not a combination"):
        measured_scale(cond * uncond, cond, uncond)


@pytest.mark.parametrize("cache", ["FasterCacheConfig", "PyramidAttentionBroadcastConfig"])
def test_caches_that_count_calls_are_refused(cache: str) -> None:
    import diffusers.hooks as hooks

    pipe = copy.deepcopy(families.build("wan"))
    config = {
        "PyramidAttentionBroadcastConfig": {"spatial_attention_block_skip_range": 2},
        "FasterCacheConfig": {"spatial_attention_block_skip_range": 2, "attention_weight_callback": lambda _: 0.3},
    }[cache]
    pipe.transformer.enable_cache(
        getattr(hooks, cache)(current_timestep_callback=lambda: pipe.current_timestep, **config)
    )
    plain = type(pipe)
    with attach(pipe, ACTIVE), pytest.raises(Unsupported, match="disable_cache"):
        families.run("wan", pipe)
    assert type(pipe) is plain
    pipe.transformer.disable_cache()
    with attach(pipe, ACTIVE):
        families.run("wan", pipe)


def test_skip_layer_guidance_is_refused() -> None:
    with attach(families.build("sd3"), ACTIVE), pytest.raises(Unsupported, match="skip_guidance_layers"):
        families.run("sd3", skip_guidance_layers=[0])


@pytest.mark.parametrize("name", families.FAMILIES)
def test_guidance_off_is_explained(name: str) -> None:
    tiny = families.FAMILIES[name]
    off = {tiny.scale: tiny.off}
    with attach(families.build(name), ACTIVE) as attached:
        with pytest.raises(ValueError, match=rf"perp_neg acts on.*{tiny.scale}={tiny.off}"):
            families.run(name, **off)
        families.run(name)
        assert attached.runs == 1


def test_methods_that_need_no_guidance_work_without() -> None:
    class Free(Method):
        name = "free"
        needs_guidance = False

    pipe = families.build("sd15")
    plain = families.run("sd15", guidance_scale=1.0)
    with attach(pipe, Free()) as attached:
        assert torch.equal(families.run("sd15", guidance_scale=1.0), plain)
    assert attached.passes == 3


def test_attach_teaches() -> None:
    pipe = families.build("sd15")
    with pytest.raises(TypeError, match="needs a diffusers pipeline"):
        attach(pipe.unet, ACTIVE)
    with pytest.raises(TypeError, match="an instance is meant"):
        attach(pipe, PerpNeg)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes methods"):
        attach(pipe, "cat")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"attach\(pipe, \*methods\)"):
        attach(pipe, [ACTIVE])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="colour"):
        attach(pipe, ACTIVE, colour=1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="not finite"):
        attach(pipe, ACTIVE, guidance_scale=float("nan"))
    with pytest.raises(ValueError, match="takeover=True"):
        attach(pipe, ACTIVE, takeover=True)
    with pytest.raises(ValueError, match="takeover=False"):
        attach(pipe, ACTIVE, takeover=False, guidance_scale=3.0)
    with pytest.raises(ValueError, match="max_batch=0"):
        attach(pipe, ACTIVE, max_batch=0)
    assert type(pipe).__dict__.get("_negguide_base") is None


def test_an_attachment_says_what_is_on_what() -> None:
    attachment = attach(families.build("sd15"), ACTIVE)
    assert repr(attachment) == f"<{ACTIVE!r} on StableDiffusionPipeline>"
    attachment.detach()


def test_attach_twice_raises_and_leaves_the_first_at_work() -> None:
    pipe = families.build("sd15")
    with attach(pipe, ACTIVE):
        found = families.run("sd15")
        with pytest.raises(RuntimeError, match="attached already"):
            attach(pipe, Rescale(0.7))
        assert torch.equal(families.run("sd15"), found)
    attach(pipe, ACTIVE).detach()


def test_errors_of_the_pipeline_itself_stay_what_they_are() -> None:
    with attach(families.build("flux"), ACTIVE), pytest.raises(TypeError, match="no_such_thing"):
        families.run("flux", no_such_thing=1)
    with attach(families.build("sd15"), ACTIVE):
        with pytest.raises(ValueError, match="divisible"):
            families.run("sd15", height=33)
        assert families.run("sd15").isfinite().all()
