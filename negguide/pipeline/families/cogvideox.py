"""CogVideoX."""

from negguide.pipeline.families.family import Family, Rule

FAMILY = Family(
    "CogVideoX",
    ("CogVideoX",),
    refused={"use_dynamic_cfg": bool},
    layers=(Rule(("CogVideoXTransformer3DModel",), r"transformer_blocks\.\d+\.attn1", "joint", values="last"),),
    frames_axis=1,
    # Its learned or sinusoidal positions count the text's tokens, too.
    fixed_text=lambda config: not config.get("use_rotary_positional_embeddings"),
)
