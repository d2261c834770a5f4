"""Pipelines and features in use that are refused, with their reasons, before anything is guided."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from negguide.pipeline.families.family import Family, Unsupported
from negguide.pipeline.families.parts import parts
from negguide.pipeline.families.patches import refuse_patches
from negguide.pipeline.families.registry import family_of, refusal_of, unsupported

SIDE_MODELS = ("controlnet",)
"""Components that read the text themselves and feed the denoiser."""

_REFUSED_HOOKS = {
    "pyramid_attention_broadcast": "Pyramid Attention Broadcast",
    "faster_cache_denoiser": "FasterCache",
    "faster_cache_block": "FasterCache",
}
_CACHES = ("fbc_", "mag_cache", "sea_cache", "taylorseer", "text_kv_cache")


def check_kind(pipe: object) -> None:
    """Raise `TypeError` for what is no pipeline, `Unsupported` for the blocks of a modular one."""
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

    kinds = {ancestor.__name__ for ancestor in type(pipe).__mro__}
    if isinstance(pipe, DiffusionPipeline) or "ModularPipeline" in kinds:
        return
    name = type(pipe).__name__
    if "ModularPipelineBlocks" in kinds:
        raise Unsupported(
            f"{name} are blocks of a modular pipeline, not the pipeline: attach to {name}.init_pipeline()"
        )
    raise TypeError(f"attach needs a diffusers pipeline, got {name}")


GUIDERS = ("guider", "ocr_guider")
"""Components of pipeline classes that own the guidance formula, for all texts or for those with letters to draw."""


def check_guider(name: str, guider: object, given_by: str = "pipe.update_components", part: str = "guider") -> None:
    """Refuse guiders that do more than one combination of conditional and unconditional, the same at all steps.

    `given_by`: what gives the pipeline another one; `part`: which component it is.
    """
    if guider is None or not getattr(guider, "_enabled", True):
        return
    kind = type(guider).__name__
    plain = f"{given_by}({part}=diffusers.ClassifierFreeGuidance(guidance_scale=...))"
    if kind != "ClassifierFreeGuidance":
        raise unsupported(
            name,
            f"its {part} is {kind}, which owns the guidance formula; give it {plain} and attach the method, also APG or "
            "CFG-Zero*, as negguide has it, or switch it off (.disable()) and give guidance_scale= to attach",
        )
    if getattr(guider, "guidance_rescale", 0) or getattr(guider, "_start", 0) > 0 or getattr(guider, "_stop", 1) < 1:
        raise unsupported(
            name,
            f"its {part} rescales or has a window (guidance_rescale, start, stop); leave that to negguide's Rescale and "
            f"Interval beside the other methods, with {plain}",
        )


def check_guiders(pipe: object, name: str) -> None:
    """`check_guider` of the guiders that a pipeline class owns (HunyuanImage, HunyuanVideo 1.5, Motif-Video)."""
    for part in GUIDERS:
        check_guider(name, getattr(pipe, part, None), "pipe.register_modules", part)


def guider_settings(guider: object) -> str:
    """What a guider is set to, as far as guidance depends on it."""
    return str(
        {name: getattr(guider, name, None) for name in ("guidance_scale", "use_original_formulation", "_enabled")}
    )


def check_pipeline(pipe: object, cls: type, parameters: Mapping[str, object]) -> None:
    """Refuse pipelines whose guidance is known not to be one combination of conditional and unconditional."""
    name = cls.__name__
    reason = refusal_of(cls)
    if reason is not None:
        raise unsupported(name, reason)
    if "prompt" not in parameters:
        raise unsupported(name, "it takes no prompt, so there is nothing to say no to")
    if "PAG" in name or "pag_scale" in parameters:
        raise unsupported(name, "perturbed-attention guidance adds a third prediction to its formula")
    if "image_guidance_scale" in parameters:
        raise unsupported(name, "it guides in three directions at once (text, image, none)")
    check_guiders(pipe, name)
    denoisers = family_of(cls).denoisers
    if all(getattr(pipe, part, None) is None for part in denoisers):
        raise unsupported(name, f"it has no denoiser named {' or '.join(denoisers)}")
    if not hasattr(getattr(pipe, "scheduler", None), "step"):
        raise unsupported(name, "it has no scheduler whose steps could be followed")


def hook_names(modules: Iterable[torch.nn.Module]) -> set[str]:
    """Names of the diffusers hooks on the modules of a denoiser."""
    # In its `__dict__`: a module looks for what it lacks in three tables and then composes an error.
    registries = (module.__dict__.get("_diffusers_hook") for module in modules)
    return {name for registry in registries if registry is not None for name in registry.hooks}


def check_call(
    pipe: object, family: Family, denoisers: Mapping[str, torch.nn.Module], arguments: Mapping[str, object]
) -> bool:
    """Refuse features in use that would give wrong pictures; returns whether a per-context cache hook is on."""
    check_guiders(pipe, type(pipe).__name__)
    for argument, forbidden in family.refused.items():
        if argument in arguments and forbidden(arguments[argument]):
            why = "the guidance formula then is not one fixed combination of two predictions"
            raise unsupported(f"{argument}={arguments[argument]!r} ({family.name})", why)
    modules = [module for denoiser in denoisers.values() for module in parts(denoiser)]
    refuse_patches(modules)
    present = hook_names(modules)
    for hook, title in _REFUSED_HOOKS.items():
        if hook in present:
            why = "it counts denoiser calls, so extra conditions would read each other's cache; disable_cache() first"
            raise unsupported(title, why)
    return any(name.startswith(_CACHES) for name in present)
