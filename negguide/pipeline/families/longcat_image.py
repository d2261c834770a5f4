"""LongCat-Image and its editing pipeline."""

from negguide.pipeline.argument_tree import RowLayout
from negguide.pipeline.families.double_and_single import double_and_single, image_modules
from negguide.pipeline.families.family import Family
from negguide.pipeline.own_rescale import norm_between

FAMILY = Family(
    "LongCat-Image",
    ("LongCatImage",),
    rows=RowLayout(shared=("txt_ids", "img_ids")),
    post=norm_between,
    layers=double_and_single("LongCatImageTransformer2DModel"),
    image_modules=image_modules("LongCatImageTransformer2DModel"),
)
