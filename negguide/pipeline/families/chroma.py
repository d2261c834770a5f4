"""Chroma: Flux without guidance distillation, with classifier-free guidance."""

from negguide.pipeline.argument_tree import RowLayout
from negguide.pipeline.families.double_and_single import double_and_single, image_modules
from negguide.pipeline.families.family import Family

FAMILY = Family(
    "Chroma",
    ("Chroma",),
    rows=RowLayout(shared=("txt_ids", "img_ids")),
    layers=double_and_single("ChromaTransformer2DModel"),
    image_modules=image_modules("ChromaTransformer2DModel"),
)
