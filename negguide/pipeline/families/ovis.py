"""Ovis-Image."""

from negguide.pipeline.argument_tree import RowLayout
from negguide.pipeline.families.double_and_single import double_and_single, image_modules
from negguide.pipeline.families.family import Family

FAMILY = Family(
    "Ovis",
    ("OvisImage",),
    rows=RowLayout(shared=("txt_ids", "img_ids")),
    layers=double_and_single("OvisImageTransformer2DModel"),
    image_modules=image_modules("OvisImageTransformer2DModel"),
)
