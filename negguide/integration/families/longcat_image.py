"""LongCat-Image and its editing pipeline."""

from negguide.integration.families.double_and_single import double_and_single
from negguide.integration.families.family import Family
from negguide.integration.post import norm_between
from negguide.integration.tree import RowLayout

FAMILY = Family(
    "LongCat-Image",
    ("LongCatImage",),
    rows=RowLayout(shared=("txt_ids", "img_ids")),
    post=norm_between,
    layers=double_and_single("LongCatImageTransformer2DModel"),
)
