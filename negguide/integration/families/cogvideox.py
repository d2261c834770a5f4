"""CogVideoX."""

from negguide.integration.families.family import Family, Rule

FAMILY = Family(
    "CogVideoX",
    ("CogVideoX",),
    refused={"use_dynamic_cfg": bool},
    layers=(Rule(("CogVideoXTransformer3DModel",), r"transformer_blocks\.\d+\.attn1", "joint"),),
)
