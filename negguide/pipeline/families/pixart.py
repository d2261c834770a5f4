"""PixArt-alpha and PixArt-Sigma."""

from negguide.pipeline.families.cross_attention import cross_attention
from negguide.pipeline.families.family import Family

FAMILY = Family(
    "PixArt", ("PixArt",), layers=cross_attention("PixArtTransformer2DModel", text_path=("caption_projection",))
)
