"""Guiders that work inside attention while diffusers' own guidance goes on: NAG and NegToMe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from negguide.guiders.base import MethodGuidance
from negguide.guiders.texts import embeds_in, laid_over, mask_in
from negguide.methods import NAG, NegToMe, Window
from negguide.methods.negative import Concept, ConceptLike, live
from negguide.pipeline.families import Unsupported
from negguide.processors import wrap_nag, wrap_negtome

if TYPE_CHECKING:
    from diffusers.modular_pipelines.modular_pipeline import BlockState


class WrappingGuidance(MethodGuidance):
    """Base of guiders that put processors around the denoiser's for one prediction, and take exactly these away."""

    def wrap(self, denoiser: object) -> list[str]:
        """Put processors on for the prediction that comes; the names of their layers."""
        raise NotImplementedError

    def prepare_models(self, denoiser: torch.nn.Module) -> None:
        super().prepare_models(denoiser)
        self._layers = self.wrap(denoiser) if self._enabled else []

    def cleanup_models(self, denoiser: torch.nn.Module) -> None:
        names, self._layers = set(self._layers), []
        for name, module in denoiser.named_modules() if names else ():
            if name.replace("_orig_mod.", "") in names:
                layer: Any = module
                layer.set_processor(layer.processor.wrapped)


class NAGGuidance(WrappingGuidance):
    """Normalised attention guidance as a guider: the negatives work inside attention, beside classifier-free guidance.

    Args:
        negatives, start, stop, enabled: see `PerpNegGuidance`; `start` and `stop` are those of classifier-free guidance, a
            negative's own window is NAG's.
        guidance_scale: that of classifier-free guidance; 1 is without.
        scale: 1 is neutral, 3 usual for UNets, 9 for Wan; up to 11.
        tau: how long the moved attention may become, 1 or more.
        alpha: how much of it is blended in, 0 (neutral) to 1.

    Models whose text shares layers with the image (SD3, Flux, Qwen-Image, Z-Image) raise `Unsupported` in the call: use
    `negguide.attach` there. Source: arXiv:2505.21179.
    """

    @register_to_config
    def __init__(
        self,
        negatives: ConceptLike | Sequence[ConceptLike],
        guidance_scale: float = 7.5,
        scale: float = 3.0,
        tau: float = 2.5,
        alpha: float = 0.5,
        start: float = 0.0,
        stop: float = 1.0,
        enabled: bool = True,
    ) -> None:
        super().__init__(NAG(negatives, scale, tau, alpha), guidance_scale, start, stop, enabled)
        self._given: list[tuple[Mapping[str, object], float]] = []
        self._layers: list[str] = []

    def prepare_inputs(  # type: ignore[override]  # as in MethodGuidance
        self, data: dict[str, tuple[Tensor, Tensor]]
    ) -> list[BlockState]:
        method: Any = self.method
        acting = live(method.negatives, self._as_step(torch.empty(0))) if self._enabled and method.companions() else ()
        self._given = [(laid_over(data, self._encoded(n.condition)), n.weight) for n in acting]
        return super().prepare_inputs(data)

    def wrap(self, denoiser: Any) -> list[str]:
        if not self._given or not self.is_conditional:
            return []
        method: Any = self.method
        texts = [embeds_in(text) for text, _ in self._given]
        if not all(isinstance(text, torch.Tensor) and text.ndim == 3 for text in texts):
            raise Unsupported(
                f"the text of {type(denoiser).__name__} shares layers with the image, so NAG is no guider there; use "
                "negguide.attach(pipe, NAG(...))"
            )
        masks = [mask_in(text) for text, _ in self._given]
        weights = [weight for _, weight in self._given]
        return wrap_nag(denoiser, texts, masks, weights, method.scale, method.tau, method.alpha, rows="all")


class NegToMeGuidance(WrappingGuidance):
    """Negative token merging as a guider: keeps the images of a prompt apart, beside classifier-free guidance.

    Args:
        images: images per prompt (`num_images_per_prompt` of the call), 2 or more.
        guidance_scale, start, stop, enabled: those of classifier-free guidance.
        reference: away from the "first" image of a prompt, or from "all" others.
        alpha: how far tokens are pushed; threshold: least similarity of those that are.
        until: fraction of sampling after which it rests.

    Models whose text shares layers with the image raise `Unsupported` in the call. Source: arXiv:2412.01339.
    """

    @register_to_config
    def __init__(
        self,
        images: int,
        guidance_scale: float = 7.5,
        reference: Literal["first", "all"] = "first",
        alpha: float = 0.9,
        threshold: float = 0.7,
        until: float = 0.2,
        start: float = 0.0,
        stop: float = 1.0,
        enabled: bool = True,
    ) -> None:
        super().__init__(NegToMe(reference, alpha, threshold, Window(0, until)), guidance_scale, start, stop, enabled)
        self.images, self.until = images, until
        self._layers: list[str] = []

    @property
    def _concepts(self) -> tuple[Concept, ...]:
        return ()

    def wrap(self, denoiser: Any) -> list[str]:
        method: Any = self.method
        if not Window(0, self.until).is_open(self._as_step(torch.empty(0))):
            return []
        return wrap_negtome(denoiser, self.images, method.reference, method.alpha, method.threshold)
