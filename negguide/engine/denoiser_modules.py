"""What is known of a denoiser's modules from call to call, as long as they are the same ones."""

from __future__ import annotations

from collections.abc import Set
from functools import cached_property

import torch

from negguide.engine.attention_layers import AttentionLayer, attention_layers, image_modules, image_side
from negguide.engine.compiled import is_compiled, refuse_deaf
from negguide.pipeline.families.family import Side
from negguide.pipeline.families.parts import parts


class DenoiserModules:
    """The modules of one denoiser, and which of them are of interest; what is found by their names is found once."""

    def __init__(self, denoiser: torch.nn.Module, modules: tuple[torch.nn.Module, ...]) -> None:
        self.denoiser = denoiser
        self.modules = modules

    @property
    def is_compiled(self) -> bool:
        """Whether the denoiser, or some part of it, is compiled; asked anew, for compiling replaces no module."""
        return is_compiled(self.denoiser, self.modules)

    @cached_property
    def layers(self) -> tuple[AttentionLayer, ...]:
        """The attention layers over image tokens. Raises `Unsupported` for unknown denoisers."""
        return attention_layers(self.denoiser)

    @cached_property
    def of_images(self) -> Set[torch.nn.Module]:
        """The modules that see image tokens alone, in order."""
        return dict.fromkeys(image_modules(self.denoiser)).keys()

    @cached_property
    def of_shared_images(self) -> tuple[tuple[torch.nn.Module, ...], Side]:
        """The joint layers whose image tokens all come from `of_images`, and where these stand among the layer's tokens."""
        images = self.of_images
        projections = ("to_q", "to_k", "to_v")
        layers = tuple(
            known.module
            for known in (self.layers if images else ())
            if known.layer.kind == "joint" and all(getattr(known.module, name, None) in images for name in projections)
        )
        return layers, image_side(self.denoiser) if layers else "last"

    def listenable(self) -> tuple[AttentionLayer, ...]:
        """The layers, where they can be heard; else raises `Unsupported`."""
        layers = self.layers
        refuse_deaf(self.denoiser, self.is_compiled)
        return layers


class KnownDenoisers:
    """What is known of the denoisers of a pipeline; goes along from one call to the next."""

    def __init__(self) -> None:
        self._known: dict[torch.nn.Module, DenoiserModules] = {}

    def modules_of(self, denoiser: torch.nn.Module) -> DenoiserModules:
        """Of the denoiser as it is now: an adapter that is loaded, or a block that is replaced, makes it unknown."""
        modules = tuple(parts(denoiser))
        known = self._known.get(denoiser)
        if known is None or known.modules != modules:
            known = self._known[denoiser] = DenoiserModules(denoiser, modules)
        return known
