"""Z-Image."""

from negguide.pipeline.argument_tree import RowLayout
from negguide.pipeline.families.family import Family, ImageModules, Rule
from negguide.pipeline.own_rescale import norm_at_most

_DENOISER = ("ZImageTransformer2DModel",)
FAMILY = Family(
    "Z-Image",
    ("ZImage",),
    cond_first=True,
    rows=RowLayout(batches=("x", "cap_feats")),
    live_scale=True,
    cfg_off={"guidance_scale": 0.0},
    post=norm_at_most,
    layers=(Rule(_DENOISER, r"layers\.\d+\.attention", "joint", "first"),),
    image_modules=ImageModules(
        _DENOISER,
        r"noise_refiner\.\d+|all_final_layer\.[^.]+",
        "first",
        stream=r"layers\.\d+\.(?:attention\.(?:to_q|to_k|to_v|to_out\.0)|feed_forward)",
    ),
)
