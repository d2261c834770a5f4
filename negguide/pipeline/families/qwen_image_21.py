"""Qwen-Image 2.1, which leaves the norm of its guided prediction as it is."""

from negguide.pipeline.argument_tree import RowLayout
from negguide.pipeline.families.family import Family

FAMILY = Family(
    "Qwen-Image 2.1",
    ("QwenImage21",),
    rows=RowLayout(batches=("img_shapes",)),
    cfg_off={"true_cfg_scale": 1.0},
)
