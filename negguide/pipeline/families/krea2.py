"""Krea 2, whose guidance is off at scale 0."""

from negguide.pipeline.families.family import Family, Rule

FAMILY = Family(
    "Krea 2",
    ("Krea2",),
    cfg_off={"guidance_scale": 0.0},
    layers=(Rule(("Krea2Transformer2DModel",), r"transformer_blocks\.\d+\.attn", "joint", "last"),),
)
