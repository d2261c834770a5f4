"""HunyuanVideo, HunyuanVideo 1.5 and HunyuanImage."""

from negguide.pipeline.families.double_and_single import image_modules
from negguide.pipeline.families.family import Family, Rule

_DENOISERS = (
    "HunyuanVideoTransformer3DModel",
    "HunyuanVideoFramepackTransformer3DModel",
    "HunyuanVideo15Transformer3DModel",
    "HunyuanImageTransformer2DModel",
)
FAMILY = Family(
    "HunyuanVideo",
    ("HunyuanVideo", "HunyuanVideo15", "HunyuanSkyreels", "HunyuanImage"),
    cfg_off={"true_cfg_scale": 1.0},
    layers=(
        Rule(_DENOISERS, r"transformer_blocks\.\d+\.attn", "joint"),
        Rule(_DENOISERS, r"single_transformer_blocks\.\d+\.attn", "joint", values="first"),
    ),
    image_modules=image_modules(*_DENOISERS, side="first"),
)
