"""Pipelines and features in use that are refused, with their reasons, before anything is guided."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

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


def check_kind(pipe: Any) -> None:
    """Raise `TypeError` for what is no pipeline, `Unsupported` for a modular one."""
    from diffusers import DiffusionPipeline

    if isinstance(pipe, DiffusionPipeline):
        return
    name = type(pipe).__name__
    if any(ancestor.__name__ in ("ModularPipeline", "ModularPipelineBlocks") for ancestor in type(pipe).__mro__):
        why = (
            "its blocks hand the guidance to a guider component of its own: give it one of negguide.guiders "
            "(pipe.update_components(guider=...)); attach takes the pipeline class of the same model, which "
            "DiffusionPipeline.from_pretrained(...) makes"
        )
        raise Unsupported(f"{name} is a modular pipeline: {why}")
    raise TypeError(f"attach needs a diffusers pipeline, got {name}")


def check_pipeline(pipe: Any, cls: type, parameters: Mapping[str, Any]) -> None:
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
    if getattr(pipe, "guider", None) is not None:
        raise unsupported(name, "it carries a guider component of its own, which owns the guidance formula")
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


def check_call(family: Family, denoisers: Mapping[str, torch.nn.Module], arguments: Mapping[str, Any]) -> bool:
    """Refuse features in use that would give wrong pictures; returns whether a per-context cache hook is on."""
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
