"""Other people's patches of a denoiser that keep features from one call to the next: refused by name, with the way off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from negguide.pipeline.families.family import Unsupported
from negguide.pipeline.families.parts import parts

_KEEPERS = {
    "DeepCache": ("DeepCache", "helper.disable()"),
    "cache_dit": ("cache-dit", "cache_dit.disable_cache(pipe)"),
    "para_attn": ("ParaAttention's first block cache", "load the pipeline without apply_cache_on_pipe"),
    "onediffx": ("onediffx's DeepCache", "load the pipeline without it"),
    "tgate": ("T-GATE", "load the pipeline without its loader"),
}
"""Package -> its name and how it is switched off."""

_OWN = ("diffusers", "transformers", "torch", "accelerate", "peft", "negguide")


def refuse_patches(denoisers: Mapping[str, torch.nn.Module]) -> None:
    """Raise `Unsupported` where a patch would hand one condition's features to another."""
    for denoiser in denoisers.values():
        patches = {id(patch): patch for part in parts(denoiser) for patch in _patches(part)}
        for patch in patches.values():
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


def _patches(part: torch.nn.Module) -> Iterator[Any]:
    """What may have been put in the place of a module's own code: its class, its forward, its attention processor."""
    yield type(part)
    yield type(part).forward
    forward = part.__dict__.get("forward")
    if forward is not None:
        yield getattr(forward, "__func__", forward)
    processor = part.__dict__.get("processor")
    if processor is not None:
        yield type(processor)
