"""Methods as attention processors that wrap whatever processor stands there, for people who own their sampling loop.

>>> from negguide import processors
>>> processors.wrap_nag(unet, [negative_embeds])  # doctest: +SKIP
>>> ...  # your loop  # doctest: +SKIP
>>> processors.unwrap(unet)  # doctest: +SKIP
"""

from negguide.processors.nag import NAGAttnProcessor, wrap_nag
from negguide.processors.negtome import NegToMeAttnProcessor, wrap_negtome
from negguide.processors.vsf import VSFAttnProcessor, wrap_vsf
from negguide.processors.wrapping import WrappingProcessor, paused, unwrap, wrap

__all__ = [
    "NAGAttnProcessor",
    "NegToMeAttnProcessor",
    "VSFAttnProcessor",
    "WrappingProcessor",
    "paused",
    "unwrap",
    "wrap",
    "wrap_nag",
    "wrap_negtome",
    "wrap_vsf",
]
