"""Allegro."""

from negguide.integration.families.cross_attention import cross_attention
from negguide.integration.families.family import Family

FAMILY = Family(
    "Allegro", ("Allegro",), layers=cross_attention("AllegroTransformer3DModel", text_path=("caption_projection",))
)
