"""Z-Image."""

from negguide.integration.families.family import Family, Rule
from negguide.integration.post import norm_at_most

FAMILY = Family(
    "Z-Image",
    ("ZImage",),
    cond_first=True,
    batches=("x", "cap_feats"),
    live_scale=True,
    cfg_off={"guidance_scale": 0.0},
    post=norm_at_most,
    layers=(Rule(("ZImageTransformer2DModel",), r"layers\.\d+\.attention", "joint", "first"),),
)
