"""Other people's patches of a denoiser that keep features from one call to the next: refused by name, with the way off."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from negguide.pipeline.families.family import Unsupported

_KEEPERS = {
    "DeepCache": ("DeepCache", "helper.disable()"),
    "cache_dit": ("cache-dit", "cache_dit.disable_cache(pipe)"),
    "para_attn": ("ParaAttention's first block cache", "load the pipeline without apply_cache_on_pipe"),
    "onediffx": ("onediffx's DeepCache", "load the pipeline without it"),
    "tgate": ("T-GATE", "load the pipeline without its loader"),
}
"""Package -> its name and how it is switched off."""

_OWN = ("diffusers", "transformers", "torch", "accelerate", "peft", "negguide")


def refuse_patches(modules: Iterable[torch.nn.Module]) -> None:
    """Raise `Unsupported` where a patch of one of a denoiser's modules would hand one condition's features to another."""
    for patch in _patches(modules):
        package = str(getattr(patch, "__module__", "")).split(".")[0]
        name = getattr(patch, "__qualname__", type(patch).__name__)
        title, remedy = _KEEPERS.get(package, ("", ""))
        if not title and package not in _OWN and "cache" in name.lower():
            title, remedy = f"{name} (of {package})", "call the pipeline without that patch"
        if title:
            raise Unsupported(
                f"{title} is at work in the denoiser: it keeps features from one call to the next and counts on the "
                f"same rows each time, so a condition would be given another one's. Switch it off first: {remedy}. "
                "Caches of diffusers that know contexts (enable_cache: first block, TaylorSeer, ...) go together"
            )


def _patches(modules: Iterable[torch.nn.Module]) -> list[object]:
    """What may have been put in the place of the modules' own code: classes, forwards, attention processors; each once."""
    types: set[type] = set()
    forwards: list[object] = []
    for module in modules:
        types.add(type(module))
        own = module.__dict__
        if "forward" in own:
            forwards.append(getattr(own["forward"], "__func__", own["forward"]))
        if own.get("processor") is not None:
            types.add(type(own["processor"]))
    forwards += [kind.forward for kind in types if hasattr(kind, "forward")]
    return [*types, *forwards]
