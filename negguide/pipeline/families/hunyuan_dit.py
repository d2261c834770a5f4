"""HunyuanDiT."""

from negguide.pipeline.families.cross_attention import cross_attention
from negguide.pipeline.families.family import Family

FAMILY = Family(
    "HunyuanDiT",
    ("HunyuanDiT",),
    layers=cross_attention("HunyuanDiT2DModel"),
    # What it learned to put in the place of padding has a length of its own.
    fixed_text=lambda config: True,
)
