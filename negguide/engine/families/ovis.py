"""Ovis-Image."""

from negguide.engine.argument_tree import RowLayout
from negguide.engine.families.double_and_single import double_and_single
from negguide.engine.families.family import Family

FAMILY = Family(
    "Ovis",
    ("OvisImage",),
    rows=RowLayout(shared=("txt_ids", "img_ids")),
    layers=double_and_single("OvisImageTransformer2DModel"),
)
