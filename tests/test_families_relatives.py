"""Sister pipelines of the families (image-to-image, inpainting, editing, other schedulers) need no row of their own."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffusers
import families
import pytest
import torch

from negguide.engine import attach
from negguide.methods import Negative, NegativePrompt, PerpNeg


@dataclass(frozen=True)
class Relative:
    """A pipeline class made of the parts of a family, and what its calls need."""

    cls: str
    family: str
    arguments: dict[str, Any]
    more: dict[str, Any] | None = None
    scheduler: Callable[[], Any] | None = None

    def build(self) -> Any:
        cls = getattr(diffusers, self.cls)
        wanted = inspect.signature(cls.__init__).parameters
        parts = {k: v for k, v in families.build(self.family).components.items() if k in wanted}
        if self.scheduler is not None:
            parts["scheduler"] = self.scheduler()
        pipe = cls(**{**copy.copy(parts), **(self.more or {})})
        pipe.set_progress_bar_config(disable=True)
        return pipe


IMAGE = {"image": families.picture(), "strength": 0.7}
PAINT = {**IMAGE, "mask_image": families.region()}
SIZE = {"height": 32, "width": 32}
PLAIN_SD = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
TRUE_CFG = {"true_cfg_scale": 5.0, "negative_prompt": "", "max_sequence_length": 24}
RELATIVES = {
    "sdxl_img2img": Relative("StableDiffusionXLImg2ImgPipeline", "sdxl", IMAGE, {"add_watermarker": False}),
    "sdxl_inpaint": Relative("StableDiffusionXLInpaintPipeline", "sdxl", PAINT | SIZE, {"add_watermarker": False}),
    "sd3_img2img": Relative("StableDiffusion3Img2ImgPipeline", "sd3", IMAGE | SIZE),
    "flux_img2img": Relative("FluxImg2ImgPipeline", "flux", IMAGE | SIZE | TRUE_CFG),
    "flux_inpaint": Relative("FluxInpaintPipeline", "flux", PAINT | SIZE | TRUE_CFG),
    "flux_kontext": Relative(
        "FluxKontextPipeline",
        "flux",
        {"image": families.picture(), **SIZE, **TRUE_CFG, "_auto_resize": False, "max_area": 32 * 32},
    ),
    "pixart_sigma": Relative(
        "PixArtSigmaPipeline", "pixart", {**SIZE, "use_resolution_binning": False, "clean_caption": False}
    ),
    "zimage_img2img": Relative("ZImageImg2ImgPipeline", "zimage", IMAGE | SIZE | {"max_sequence_length": 64}),
    "controlnet_img2img": Relative(
        "StableDiffusionControlNetImg2ImgPipeline",
        "controlnet",
        IMAGE | {"control_image": families.picture()},
        PLAIN_SD,
    ),
    "controlnet_guess": Relative(
        "StableDiffusionControlNetPipeline",
        "controlnet",
        {"image": families.picture(), **SIZE, "guess_mode": True},
        PLAIN_SD,
    ),
    "wan_video": Relative(
        "WanVideoToVideoPipeline",
        "wan",
        {
            "video": [families.picture(16)] * 5,
            "strength": 0.7,
            "height": 16,
            "width": 16,
            "max_sequence_length": 16,
        },
    ),
    "sd_pndm": Relative(
        "StableDiffusionPipeline",
        "sd15",
        SIZE,
        PLAIN_SD,
        lambda: diffusers.PNDMScheduler(skip_prk_steps=True, steps_offset=1),
    ),
    "sd_heun": Relative("StableDiffusionPipeline", "sd15", SIZE, PLAIN_SD, diffusers.HeunDiscreteScheduler),
}


def run_relative(name: str, pipe: Any, **more: Any) -> torch.Tensor:
    """Latents of a short call with guidance on."""
    defaults = {"prompt": "a pet on grass", "num_inference_steps": 3, "output_type": "latent"}
    own = RELATIVES[name].arguments
    if "true_cfg_scale" not in own:
        defaults["guidance_scale"] = 5.0
    output = pipe(**{**defaults, "generator": torch.Generator().manual_seed(0), **own, **more})
    return output[0] if isinstance(output, tuple) else getattr(output, "frames", getattr(output, "images", None))


@pytest.mark.parametrize("name", RELATIVES)
def test_relative(name: str) -> None:
    pipe = RELATIVES[name].build()

    def run(**more: Any) -> torch.Tensor:
        return run_relative(name, pipe, **more)

    plain, negative = run(), run(negative_prompt="a cat")
    with attach(pipe, PerpNeg(Negative("cat", 0.0))) as attached:
        assert torch.equal(run(), plain)
    assert attached.passes == 2 * len(attached.trace)
    with attach(pipe, NegativePrompt(["a cat"])) as attached:
        assert float((run() - negative).abs().max()) <= 2e-5 * float(negative.abs().max())
    assert attached.passes == 2 * len(attached.trace)
    with attach(pipe, PerpNeg(["cat", "hat"])) as attached:
        found = run()
    assert attached.passes == 4 * len(attached.trace)
    assert found.isfinite().all() and not torch.equal(found, plain)
    assert torch.equal(run(), plain)
