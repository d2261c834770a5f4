"""Tiny pipelines of the real classes, with random weights, made from configs offline; one builder per family.

`build(name)` builds once per process; `run(name, ...)` makes a short call. Weights are random, so pictures mean nothing:
what is tested is plumbing and arithmetic.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffusers
import families_dits as dits
import families_guiders as guiders
import families_llms as llms
import families_newer as newer
import families_qwen as qwen
import families_qwen_edit as edits
import families_sections as sections
import families_transformers as transformers
import families_unets as unets
import families_videos as videos
import numpy as np
import pytest
import torch
from PIL import Image


def picture(size: int = 32) -> Image.Image:
    pixels = np.random.RandomState(0).randint(0, 255, (size, size, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def region(size: int = 32) -> Image.Image:
    pixels = np.zeros((size, size), dtype=np.uint8)
    pixels[:, size // 2 :] = 255
    return Image.fromarray(pixels)


@dataclass(frozen=True)
class Tiny:
    """A family under test. `arguments`: what a call needs beyond the prompt; `scale`: the argument that turns guidance on."""

    builder: Callable[[], Any]
    arguments: Callable[[], dict[str, Any]] = dict
    scale: str = "guidance_scale"
    """"": its guider holds it."""
    w: float = 5.0
    denoiser: str = "transformer"
    off: float = 1.0
    needs_negative: bool = False


def _size(pixels: int = 32, **more: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {"height": pixels, "width": pixels, **more}


FAMILIES: dict[str, Tiny] = {
    "sd15": Tiny(unets.sd15, _size(), denoiser="unet"),
    "img2img": Tiny(unets.img2img, lambda: {"image": picture(), "strength": 0.7}, denoiser="unet"),
    "inpaint": Tiny(
        unets.inpaint,
        lambda: {"image": picture(), "mask_image": region(), "height": 32, "width": 32},
        denoiser="unet",
    ),
    "controlnet": Tiny(unets.controlnet, lambda: {"image": picture(), "height": 32, "width": 32}, denoiser="unet"),
    "sdxl": Tiny(unets.sdxl, _size(), denoiser="unet"),
    "sd3": Tiny(transformers.sd3, _size()),
    "flux": Tiny(transformers.flux, _size(max_sequence_length=24), scale="true_cfg_scale", needs_negative=True),
    "pixart": Tiny(transformers.pixart, _size(use_resolution_binning=False, clean_caption=False)),
    "sana": Tiny(
        llms.sana, _size(use_resolution_binning=False, complex_human_instruction=None, max_sequence_length=24)
    ),
    "wan": Tiny(transformers.wan, _size(16, num_frames=5, max_sequence_length=16)),
    "wan22": Tiny(transformers.wan22, _size(16, num_frames=5, max_sequence_length=16)),
    "qwen": Tiny(llms.qwen_image, _size(max_sequence_length=32), scale="true_cfg_scale", needs_negative=True),
    "zimage": Tiny(llms.z_image, _size(max_sequence_length=64), off=0.0),
    "klein": Tiny(llms.flux2_klein, _size(max_sequence_length=32, text_encoder_out_layers=(1, 2, 3))),
}

MORE: dict[str, Tiny] = {
    "chroma": Tiny(dits.chroma, _size(max_sequence_length=16)),
    "bria": Tiny(dits.bria, _size(max_sequence_length=16)),
    "hidream": Tiny(dits.hidream, _size(max_sequence_length=16)),
    "lumina2": Tiny(dits.lumina2, _size(max_sequence_length=224)),
    "lumina": Tiny(dits.lumina, _size(clean_caption=False, max_sequence_length=24)),
    "hunyuan_dit": Tiny(dits.hunyuan_dit, _size(64, use_resolution_binning=False)),
    "longcat": Tiny(dits.longcat, _size(enable_prompt_rewrite=False)),
    "qwen_controlnet": Tiny(
        dits.qwen_controlnet,
        _size(max_sequence_length=32, control_image=picture()),
        scale="true_cfg_scale",
        needs_negative=True,
    ),
    "cogview4": Tiny(dits.cogview4, _size(max_sequence_length=16), w=20.0),
    "aura_flow": Tiny(newer.aura_flow, _size(max_sequence_length=16)),
    "cogview3": Tiny(newer.cogview3, _size(max_sequence_length=16)),
    "kolors": Tiny(newer.kolors, _size(max_sequence_length=16), denoiser="unet"),
    "kandinsky5": Tiny(newer.kandinsky5, _size(max_sequence_length=32)),
    "krea2": Tiny(qwen.krea2, _size(max_sequence_length=32), off=0.0),
    "nucleus": Tiny(qwen.nucleus, _size(max_sequence_length=64, return_index=-2)),
    "prx": Tiny(newer.prx, _size(use_resolution_binning=False, tokenizer_max_length=24)),
    "bria_fibo": Tiny(qwen.bria_fibo, _size(128, max_sequence_length=32)),
    "hunyuan_video": Tiny(
        videos.hunyuan_video,
        _size(
            32,
            num_frames=9,
            max_sequence_length=16,
            prompt_template={"template": "{}", "crop_start": 0},
            guidance_scale=4.0,
        ),
        scale="true_cfg_scale",
        needs_negative=True,
    ),
    "ltx": Tiny(videos.ltx, _size(num_frames=13, max_sequence_length=16)),
    "cogvideox": Tiny(videos.cogvideox, _size(64, num_frames=9, max_sequence_length=16)),
    "mochi": Tiny(videos.mochi, _size(32, num_frames=7, max_sequence_length=16)),
    "allegro": Tiny(videos.allegro, _size(64, num_frames=8, max_sequence_length=16, clean_caption=False)),
    "animatediff": Tiny(videos.animatediff, _size(num_frames=4), denoiser="unet"),
    "anyflow": Tiny(sections.anyflow, _size(16, num_frames=5, max_sequence_length=16)),
    "skyreels": Tiny(sections.skyreels, _size(16, num_frames=5, max_sequence_length=16)),
    "hunyuan_image": Tiny(guiders.hunyuan_image, _size(64), scale=""),
    "hunyuan_video_15": Tiny(guiders.hunyuan_video_15, _size(16, num_frames=5), scale=""),
    "motif_video": Tiny(guiders.motif_video, _size(32, num_frames=5, max_sequence_length=16), scale=""),
    "qwen_edit": Tiny(edits.qwen_edit, _size(image=picture()), scale="true_cfg_scale", needs_negative=True),
    "qwen_edit_plus": Tiny(
        edits.qwen_edit_plus, _size(image=[picture()] * 2), scale="true_cfg_scale", w=8.0, needs_negative=True
    ),
    "latte": Tiny(videos.latte, _size(video_length=4, clean_caption=False)),
}
"""Families under a shorter contract; see `test_families_more`."""


NEWER = {
    "anyflow": "AnyFlowPipeline",
    "bria_fibo": "BriaFiboPipeline",
    "kandinsky5": "Kandinsky5T2IPipeline",
    "krea2": "Krea2Pipeline",
    "nucleus": "NucleusMoEImagePipeline",
    "prx": "PRXPipeline",
    "bria": "BriaPipeline",
    "hunyuan_image": "HunyuanImagePipeline",
    "hunyuan_video_15": "HunyuanVideo15Pipeline",
    "motif_video": "MotifVideoPipeline",
    "klein": "Flux2KleinPipeline",
    "qwen_edit": "QwenImageEditPlusPipeline",  # before it, the pipeline reads more of its processor than the small one gives
    "qwen_edit_plus": "QwenImageEditPlusPipeline",
    "longcat": "LongCatImagePipeline",
    "qwen_controlnet": "QwenImageControlNetModel",
    "zimage": "ZImagePipeline",
}
"""Families that the oldest diffusers we support does not have, with the class that they need."""


@functools.cache
def build(name: str) -> Any:
    """The pipeline of a family, built once, in evaluation mode, with the same weights in every process.

    Skips the test where the installed diffusers does not have that family.
    """
    if name in NEWER and not hasattr(diffusers, NEWER[name]):
        pytest.skip(f"diffusers {diffusers.__version__} has no {NEWER[name]}: the family {name!r} is not tried")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipe = (FAMILIES | MORE)[name].builder()
        for part in pipe.components.values():
            if isinstance(part, torch.nn.Module):
                part.eval().requires_grad_(False)
                _enliven(part)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _enliven(part: torch.nn.Module) -> None:
    """Layers that start at zero (gates, output convolutions) get weights, so that text changes the prediction."""
    for parameter in part.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)


def arguments(name: str, prompt: Any = "a pet on grass", steps: int = 3, seed: int = 0, **more: Any) -> dict[str, Any]:
    """Arguments of a short call with guidance on."""
    tiny = (FAMILIES | MORE)[name]
    count = (len(prompt) if isinstance(prompt, list) else 1) * more.get("num_images_per_prompt", 1)
    seeds: Any = [torch.Generator().manual_seed(seed + i) for i in range(count)]
    result = {
        "prompt": list(prompt) if isinstance(prompt, list) else prompt,
        "num_inference_steps": steps,
        "generator": seeds if count > 1 else seeds[0],
        "output_type": "latent",
        **({tiny.scale: tiny.w} if tiny.scale else {}),
        **tiny.arguments(),
    }
    if tiny.needs_negative:
        result["negative_prompt"] = [""] * len(prompt) if isinstance(prompt, list) else ""
    return result | more


def run(name: str, pipe: Any = None, **more: Any) -> torch.Tensor:
    """Latents of a short call."""
    pipe = pipe or build(name)
    output = pipe(**arguments(name, **more))
    if isinstance(output, tuple):
        found: torch.Tensor = output[0]
        return found
    return next(getattr(output, name) for name in ("frames", "images", "image") if hasattr(output, name))


def skip_where_stock_mixes_prompts(name: str, both: torch.Tensor, alone: list[torch.Tensor], tolerance: float) -> None:
    """Skip the test where the plain pipeline of this diffusers gives the images of a batch other values than each alone.

    `both`: its latents for several prompts in one call; `alone`: those of one call for each.
    """
    parts = zip(both.split(len(both) // len(alone)), alone, strict=True)
    if any(float((part - one).abs().max()) > tolerance * float(one.abs().max()) for part, one in parts):
        pytest.skip(f"diffusers {diffusers.__version__} mixes the prompts of a batch of {name} up without us too")
