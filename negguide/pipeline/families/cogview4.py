"""CogView 4."""

from negguide.pipeline.families.family import Family, ImageModules, Rule

_DENOISER = ("CogView4Transformer2DModel",)
FAMILY = Family(
    "CogView4",
    ("CogView4",),
    layers=(Rule(_DENOISER, r"transformer_blocks\.\d+\.attn1", "joint", values="last"),),
    image_modules=ImageModules(
        _DENOISER,
        "",
        "last",
        stream=r"transformer_blocks\.\d+\.attn1\.(?:to_q|to_k|to_v|to_out\.0)",
        unread="norm_out|proj_out",
    ),
)
