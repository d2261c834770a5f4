"""SkyReels V2."""

from negguide.pipeline.families.cross_attention import cross_attention
from negguide.pipeline.families.family import Family

FAMILY = Family(
    "SkyReels",
    ("SkyReelsV2",),
    layers=cross_attention("SkyReelsV2Transformer3DModel", text_path=("condition_embedder.text_embedder",)),
)
