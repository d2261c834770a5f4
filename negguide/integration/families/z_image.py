"""Z-Image."""

from negguide.integration.families.family import Family, Rule
from negguide.integration.post import norm_at_most
from negguide.integration.tree import RowLayout

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
