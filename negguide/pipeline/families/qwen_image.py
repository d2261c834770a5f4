"""Qwen-Image and its editing, ControlNet and layered pipelines."""

from negguide.pipeline.argument_tree import RowLayout
from negguide.pipeline.families.family import Family, ImageModules, Rule
from negguide.pipeline.own_rescale import norm_of_cond

_DENOISER = ("QwenImageTransformer2DModel",)
FAMILY = Family(
    "Qwen-Image",
    ("QwenImage",),
    rows=RowLayout(batches=("img_shapes",)),
    cfg_off={"true_cfg_scale": 1.0},
    post=norm_of_cond,
    layers=(Rule(_DENOISER, r"transformer_blocks\.\d+\.attn", "joint"),),
    image_modules=ImageModules(
        _DENOISER,
        r"transformer_blocks\.\d+\.(?:img_norm1|img_norm2|img_mlp|attn\.(?:to_q|to_k|to_v|norm_q|norm_k|to_out\.0))",
        "last",
        unread="norm_out|proj_out",
    ),
)
