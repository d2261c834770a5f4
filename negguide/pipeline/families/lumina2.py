"""Lumina-Image 2.0."""

from negguide.pipeline.families.family import Family, Rule
from negguide.pipeline.own_rescale import norm_of_cond

_DENOISER = ("Lumina2Transformer2DModel",)
FAMILY = Family(
    "Lumina 2",
    ("Lumina2",),
    post=norm_of_cond,
    refused={"cfg_trunc_ratio": lambda value: value is not None and value < 1.0},
    layers=(Rule(_DENOISER, r"layers\.\d+\.attn", "joint", "behind", values="behind"),),
)
