"""Allegro."""

from negguide.pipeline.families.cross_attention import cross_attention
from negguide.pipeline.families.family import Family

FAMILY = Family(
    "Allegro", ("Allegro",), layers=cross_attention("AllegroTransformer3DModel", text_path=("caption_projection",))
)
