"""Z-Image."""

from negguide.pipeline.argument_tree import RowLayout
from negguide.pipeline.families.family import Family, Rule
from negguide.pipeline.own_rescale import norm_at_most

FAMILY = Family(
    "Z-Image",
    ("ZImage",),
    cond_first=True,
    rows=RowLayout(batches=("x", "cap_feats")),
    live_scale=True,
    cfg_off={"guidance_scale": 0.0},
    post=norm_at_most,
    layers=(Rule(("ZImageTransformer2DModel",), r"layers\.\d+\.attention", "joint", "first"),),
)
