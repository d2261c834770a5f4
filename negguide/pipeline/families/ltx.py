"""LTX-Video."""

from negguide.pipeline.families.cross_attention import cross_attention
from negguide.pipeline.families.family import Family

FAMILY = Family(
    "LTX", ("LTX",), layers=cross_attention("LTXVideoTransformer3DModel", text_path=("caption_projection",))
)
