"""Flux.1: text-to-image, image-to-image, inpainting, ControlNet, Kontext."""

from negguide.pipeline.argument_tree import RowLayout
from negguide.pipeline.families.double_and_single import double_and_single, image_modules
from negguide.pipeline.families.family import Family

FAMILY = Family(
    "Flux",
    ("Flux",),
    rows=RowLayout(shared=("txt_ids", "img_ids")),
    cfg_off={"true_cfg_scale": 1.0},
    layers=double_and_single("FluxTransformer2DModel"),
    image_modules=image_modules("FluxTransformer2DModel"),
    defaults={"nag": {"scale": 5.0, "tau": 2.5, "alpha": 0.25, "pooled": "own"}},
)
