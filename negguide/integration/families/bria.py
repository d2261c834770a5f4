"""Bria 3."""

from negguide.integration.families.double_and_single import double_and_single
from negguide.integration.families.family import Family
from negguide.integration.tree import RowLayout

FAMILY = Family(
    "Bria",
    ("Bria",),
    rows=RowLayout(shared=("txt_ids", "img_ids")),
    layers=double_and_single("BriaTransformer2DModel"),
)
