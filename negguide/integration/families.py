"""What must be known of a model family beforehand, one row each; the rest is found out by probing the pipeline.

A pipeline that has no row is treated by `GENERIC`. Refusals, with their reasons, stand below the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from negguide.integration.post import Post, norm_at_most, norm_of_cond, rescale


class Unsupported(ValueError):
    """A pipeline, or a feature in use, that negguide cannot guide; says why and what is supported."""


@dataclass(frozen=True)
class Family:
    """Facts of one family. `pipelines`: prefixes of class names; the longest that fits wins."""

    name: str
    pipelines: tuple[str, ...]
    denoisers: tuple[str, ...] = ("unet", "transformer", "transformer_2")
    cond_first: bool = False
    """Batched guidance stacks [conditional; unconditional] instead of [unconditional; conditional]."""
    batches: tuple[str, ...] = ()
    """Denoiser arguments whose python list is the batch."""
    shared: tuple[str, ...] = ()
    """Denoiser arguments without rows, whatever their first dimension happens to be."""
    live_scale: bool = False
    """The pipeline reads its `guidance_scale` property anew at each step, so that callbacks may change it."""
    scale_2: str = ""
    """Argument with the scale of `transformer_2` (None there: the same as for `transformer`)."""
    cfg_off: Mapping[str, Any] = field(default_factory=lambda: {"guidance_scale": 1.0})
    """Arguments that switch the pipeline's own guidance off."""
    post: Post = rescale
    """What the pipeline does to the guided prediction after its affine formula."""
    refused: Mapping[str, Callable[[Any], bool]] = field(default_factory=dict)
    """Arguments whose value (predicate) makes the pipeline's guidance something else than one affine formula."""


SIDE_MODELS = ("controlnet",)
"""Components that read the text themselves and feed the denoiser."""

_TRUE_CFG = {"true_cfg_scale": 1.0}
GENERIC = Family("generic", ())

FAMILIES: tuple[Family, ...] = (
    Family("Stable Diffusion 1/2", ("StableDiffusion",), live_scale=True),
    Family("Stable Diffusion XL", ("StableDiffusionXL",), live_scale=True),
    Family(
        "Stable Diffusion 3",
        ("StableDiffusion3",),
        live_scale=True,
        refused={"skip_guidance_layers": lambda value: value is not None},
    ),
    Family("Flux", ("Flux",), shared=("txt_ids", "img_ids"), cfg_off=_TRUE_CFG),
    Family("Flux.2", ("Flux2",), cfg_off={"guidance_scale": 1.0}),
    Family("PixArt", ("PixArt",)),
    Family("Sana", ("Sana",)),
    Family("Wan", ("Wan",), scale_2="guidance_scale_2"),
    Family("Qwen-Image", ("QwenImage",), batches=("img_shapes",), cfg_off=_TRUE_CFG, post=norm_of_cond),
    Family(
        "Z-Image",
        ("ZImage",),
        cond_first=True,
        batches=("x", "cap_feats"),
        live_scale=True,
        cfg_off={"guidance_scale": 0.0},
        post=norm_at_most,
    ),
    Family(
        "Lumina 2",
        ("Lumina2",),
        post=norm_of_cond,
        refused={"cfg_trunc_ratio": lambda value: value is not None and value < 1.0},
    ),
    Family("CogVideoX", ("CogVideoX",), refused={"use_dynamic_cfg": bool}),
)

SUPPORTED = (
    "Stable Diffusion 1/2 (txt2img, img2img, inpaint, ControlNet), SDXL, SD3, Flux (true_cfg_scale), PixArt, Sana, Wan, "
    "Qwen-Image, Z-Image; Flux.2 and distilled models by takeover (guidance_scale= given to attach)"
)

_REFUSED_CLASSES = (
    ("InstructPix2Pix", "it guides in three directions at once (text, image, none)"),
    ("AnimateDiff", "its text rows are repeated per frame and no row layout is known yet"),
    ("LTX2", "it predicts video and audio together, with extra perturbed passes"),
    ("DreamLite", "it guides in three directions at once"),
    ("OmniGen", "it guides in three directions at once"),
)
_REFUSED_HOOKS = {
    "pyramid_attention_broadcast": "Pyramid Attention Broadcast",
    "faster_cache_denoiser": "FasterCache",
    "faster_cache_block": "FasterCache",
}
_CACHES = ("fbc_", "mag_cache", "sea_cache", "taylorseer", "text_kv_cache")


def family_of(cls: type) -> Family:
    """The row for a pipeline class, by the longest prefix of the names in its ancestry."""
    for ancestor in cls.__mro__:
        rows = [(len(p), row) for row in FAMILIES for p in row.pipelines if ancestor.__name__.startswith(p)]
        if rows:
            return max(rows, key=lambda pair: pair[0])[1]
    return GENERIC


def unsupported(what: str, why: str) -> Unsupported:
    """The refusal of something by name, with the reason and what can be used."""
    return Unsupported(f"{what} is not supported: {why}. Supported: {SUPPORTED}.")


def check_pipeline(pipe: Any, cls: type, parameters: Mapping[str, Any]) -> None:
    """Refuse pipelines whose guidance is known not to be one combination of conditional and unconditional."""
    name = cls.__name__
    for part, why in _REFUSED_CLASSES:
        if part in name:
            raise unsupported(name, why)
    if "PAG" in name or "pag_scale" in parameters:
        raise unsupported(name, "perturbed-attention guidance adds a third prediction to its formula")
    if "image_guidance_scale" in parameters:
        raise unsupported(name, "it guides in three directions at once (text, image, none)")
    if getattr(pipe, "guider", None) is not None:
        raise unsupported(name, "it carries a guider component of its own, which owns the guidance formula")


def hook_names(module: torch.nn.Module) -> set[str]:
    """Names of the diffusers hooks inside a denoiser."""
    registries = (getattr(child, "_diffusers_hook", None) for child in module.modules())
    return {name for registry in registries if registry is not None for name in registry.hooks}


def check_call(family: Family, denoisers: Mapping[str, torch.nn.Module], arguments: Mapping[str, Any]) -> bool:
    """Refuse features in use that would give wrong pictures; returns whether a per-context cache hook is on."""
    for argument, forbidden in family.refused.items():
        if argument in arguments and forbidden(arguments[argument]):
            why = "the guidance formula then is not one fixed combination of two predictions"
            raise unsupported(f"{argument}={arguments[argument]!r} ({family.name})", why)
    names = {hook for module in denoisers.values() for hook in hook_names(module)}
    for hook, title in _REFUSED_HOOKS.items():
        if hook in names:
            why = "it counts denoiser calls, so extra conditions would read each other's cache; disable_cache() first"
            raise unsupported(title, why)
    return any(name.startswith(_CACHES) for name in names)
