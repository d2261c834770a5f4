"""Bria 3."""

from negguide.pipeline.argument_tree import RowLayout
from negguide.pipeline.families.double_and_single import double_and_single, image_modules
from negguide.pipeline.families.family import Family

FAMILY = Family(
    "Bria",
    ("Bria",),
    rows=RowLayout(shared=("txt_ids", "img_ids")),
    layers=double_and_single("BriaTransformer2DModel", "BriaFiboTransformer2DModel"),
    image_modules=image_modules("BriaTransformer2DModel", "BriaFiboTransformer2DModel"),
    # Fibo is told by a mask of all pairs of tokens which of them attend to which.
    fixed_text=lambda config: "text_encoder_dim" in config,
)
