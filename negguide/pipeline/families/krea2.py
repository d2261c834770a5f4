"""Krea 2, whose guidance is off at scale 0."""

from negguide.pipeline.families.family import Family, ImageModules, Rule

_DENOISER = ("Krea2Transformer2DModel",)
FAMILY = Family(
    "Krea 2",
    ("Krea2",),
    cfg_off={"guidance_scale": 0.0},
    layers=(Rule(_DENOISER, r"transformer_blocks\.\d+\.attn", "joint", "last"),),
    image_modules=ImageModules(
        _DENOISER,
        "",
        "last",
        stream=r"transformer_blocks\.\d+\.(?:attn\.(?:to_q|to_k|to_v|to_gate|to_out\.0)|ff)",
        unread="final_layer",
    ),
)
