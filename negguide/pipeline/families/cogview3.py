"""CogView 3 Plus."""

from negguide.pipeline.families.family import Family, Rule

FAMILY = Family(
    "CogView3",
    ("CogView3Plus",),
    layers=(Rule(("CogView3PlusTransformer2DModel",), r"transformer_blocks\.\d+\.attn1", "joint", values="last"),),
)
