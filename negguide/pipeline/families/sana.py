"""Sana, Sana-Sprint and Sana-Video."""

from negguide.pipeline.families.cross_attention import cross_attention
from negguide.pipeline.families.family import Family

FAMILY = Family(
    "Sana",
    ("Sana",),
    layers=cross_attention(
        "SanaTransformer2DModel", "SanaVideoTransformer3DModel", text_path=("caption_projection", "caption_norm")
    ),
)
