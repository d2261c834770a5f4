"""CogView 4."""

from negguide.pipeline.families.family import Family, Rule

FAMILY = Family(
    "CogView4",
    ("CogView4",),
    layers=(Rule(("CogView4Transformer2DModel",), r"transformer_blocks\.\d+\.attn1", "joint", values="last"),),
)
