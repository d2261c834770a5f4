"""Mochi."""

from negguide.pipeline.families.family import Family, Rule

FAMILY = Family(
    "Mochi", ("Mochi",), layers=(Rule(("MochiTransformer3DModel",), r"transformer_blocks\.\d+\.attn1", "joint"),)
)
