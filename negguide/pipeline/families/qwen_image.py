"""Qwen-Image and its editing, ControlNet and layered pipelines."""

from negguide.pipeline.argument_tree import RowLayout
from negguide.pipeline.families.family import Family, Rule
from negguide.pipeline.own_rescale import norm_of_cond

FAMILY = Family(
    "Qwen-Image",
    ("QwenImage",),
    rows=RowLayout(batches=("img_shapes",)),
    cfg_off={"true_cfg_scale": 1.0},
    post=norm_of_cond,
    layers=(Rule(("QwenImageTransformer2DModel",), r"transformer_blocks\.\d+\.attn", "joint"),),
)
