"""Bria 3."""

from negguide.integration.families.double_and_single import double_and_single
from negguide.integration.families.family import Family

FAMILY = Family(
    "Bria",
    ("Bria",),
    shared=("txt_ids", "img_ids"),
    layers=double_and_single("BriaTransformer2DModel"),
)
