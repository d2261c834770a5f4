"""Methods as guiders of diffusers, for its modular pipelines. Needs a diffusers whose guiders take conditions by tuple.

>>> from negguide.guiders import PerpNegGuidance
>>> guider = PerpNegGuidance(["glasses", ("hat", 0.5)], guidance_scale=5.0).encode(pipe)  # doctest: +SKIP
>>> pipe.update_components(guider=guider)  # doctest: +SKIP
"""

from negguide.guiders.attention import NAGGuidance, NegToMeGuidance
from negguide.guiders.latents import DynamicNegativeGuidance
from negguide.guiders.negatives import ContrastiveGuidance, PerpNegGuidance, SignedNegativeGuidance

__all__ = [
    "ContrastiveGuidance",
    "DynamicNegativeGuidance",
    "NAGGuidance",
    "NegToMeGuidance",
    "PerpNegGuidance",
    "SignedNegativeGuidance",
]
