"""HunyuanVideo and HunyuanImage."""

from negguide.integration.families.family import Family, Rule

FAMILY = Family(
    "HunyuanVideo",
    ("HunyuanVideo", "HunyuanSkyreels"),
    cfg_off={"true_cfg_scale": 1.0},
    layers=(
        Rule(
            (
                "HunyuanVideoTransformer3DModel",
                "HunyuanVideoFramepackTransformer3DModel",
                "HunyuanImageTransformer2DModel",
            ),
            r"(?:single_)?transformer_blocks\.\d+\.attn",
            "joint",
        ),
    ),
)
