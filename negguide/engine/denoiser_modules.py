"""What is known of a denoiser's modules from call to call, as long as they are the same ones."""

from __future__ import annotations

from collections.abc import Set
from functools import cached_property

import torch

from negguide.engine.attention_layers import AttentionLayer, SharedModules, attention_layers, shared_modules
from negguide.engine.compiled import is_compiled, refuse_deaf
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
    def shared(self) -> SharedModules | None:
        """The modules that need not compute the image of a companion again; None where none are known."""
        return shared_modules(self.denoiser)

    @cached_property
    def of_one_stream(self) -> tuple[torch.nn.Module, ...]:
        """The joint layers that project text and image together."""
        return self._joint(self.shared.stream if self.shared is not None else set())

    @cached_property
    def of_two_streams(self) -> tuple[torch.nn.Module, ...]:
        """The joint layers whose image tokens come from modules that see nothing else."""
        return self._joint(self.shared.alone if self.shared is not None else set())

    def _joint(self, projections: Set[torch.nn.Module]) -> tuple[torch.nn.Module, ...]:
        """The joint layers that have some of these projections."""
        layers = self.layers if projections else ()
        joint = (attention_layer.module for attention_layer in layers if attention_layer.layer.kind == "joint")
        return tuple(module for module in joint if not projections.isdisjoint(module._modules.values()))

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
        remembered = self._known.get(denoiser)
        if remembered is None or remembered.modules != modules:
            remembered = self._known[denoiser] = DenoiserModules(denoiser, modules)
        return remembered
