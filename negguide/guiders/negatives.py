"""Guiders with K negatives: Perp-Neg, signed and contrastive."""

from __future__ import annotations

from collections.abc import Sequence

from diffusers.configuration_utils import register_to_config

from negguide.guiders.base import MethodGuidance
from negguide.methods import ContrastiveNegative, NegativePrompt, PerpNeg
from negguide.methods.negative import ConceptLike


class PerpNegGuidance(MethodGuidance):
    """Perp-Neg as a guider: removes what a negative does not share with the prompt.

    `eps_0 + w [d_+ - sum_i w_i perp(d_i, d_+) + sum_j v_j perp(d_j, d_+)]`, `d = eps - eps_0`.

    Args:
        negatives: texts, (text, weight) pairs or `Negative`s with progress windows or embeddings; call `encode` for texts.
        guidance_scale: w; 1 and more, 5 to 8 usual.
        positives: further wishes, in the same forms.
        start: fraction of the steps before which there is no guidance at all.
        stop: fraction after which there is none.
        enabled: False leaves the prompt's prediction alone.

    Raises:
        ValueError: for masks, windows of noise levels, and one text per prompt: these need `negguide.attach`.

    Source: arXiv:2304.04968.
    """

    @register_to_config
    def __init__(
        self,
        negatives: ConceptLike | Sequence[ConceptLike],
        guidance_scale: float = 7.5,
        positives: ConceptLike | Sequence[ConceptLike] = (),
        start: float = 0.0,
        stop: float = 1.0,
        enabled: bool = True,
    ) -> None:
        super().__init__(PerpNeg(negatives, positives, "own"), guidance_scale, start, stop, enabled)


class SignedNegativeGuidance(MethodGuidance):
    """Negatives subtracted from guidance: `eps_0 + w d_+ - sum_i w_i s d_i`, `d = eps - eps_0`.

    Args:
        negatives, guidance_scale, start, stop, enabled: see `PerpNegGuidance`.
        scale: s, 0 or more; None is the guidance scale.

    Source: arXiv:2206.01714.
    """

    @register_to_config
    def __init__(
        self,
        negatives: ConceptLike | Sequence[ConceptLike],
        guidance_scale: float = 7.5,
        scale: float | None = None,
        start: float = 0.0,
        stop: float = 1.0,
        enabled: bool = True,
    ) -> None:
        method = NegativePrompt(negatives, mode="signed", scale=scale, unconditional="own")
        super().__init__(method, guidance_scale, start, stop, enabled)


class ContrastiveGuidance(MethodGuidance):
    """Contrastive CFG as a guider: a bounded negative that lets go once the picture is far from it.

    `eps_0 + w d_+ - sum_i w_i s lambda_-(d_i) d_i`, `lambda_- = 2 / (1 + exp(tau |d_i|^2))`, `d = eps - eps_0`.

    Args:
        negatives, guidance_scale, start, stop, enabled: see `PerpNegGuidance`.
        tau: 0 or more, how soon a negative lets go; 0.2 fits 4x64x64 latents, smaller for larger ones.
        scale: s, 0 or more; None is the guidance scale.
        boost_positive: strengthen the prompt as well, up to twice, as in the paper.

    Source: arXiv:2411.17077.
    """

    @register_to_config
    def __init__(
        self,
        negatives: ConceptLike | Sequence[ConceptLike],
        guidance_scale: float = 7.5,
        tau: float = 0.2,
        scale: float | None = None,
        boost_positive: bool = False,
        start: float = 0.0,
        stop: float = 1.0,
        enabled: bool = True,
    ) -> None:
        method = ContrastiveNegative(negatives, tau, scale, boost_positive, "own")
        super().__init__(method, guidance_scale, start, stop, enabled)
