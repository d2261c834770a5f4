"""Stable Diffusion 3 and 3.5."""

from negguide.pipeline.families.family import Family, ImageModules, Rule

_DENOISER = ("SD3Transformer2DModel",)
FAMILY = Family(
    "Stable Diffusion 3",
    ("StableDiffusion3",),
    live_scale=True,
    refused={"skip_guidance_layers": lambda value: value is not None},
    layers=(
        Rule(_DENOISER, r"transformer_blocks\.\d+\.attn", "joint"),
        Rule(_DENOISER, r"transformer_blocks\.\d+\.attn2", "self"),
    ),
    image_modules=ImageModules(
        _DENOISER,
        r"transformer_blocks\.\d+\.(?:norm1|norm2|ff|attn2|attn\.(?:to_q|to_k|to_v|norm_q|norm_k|to_out\.0))",
        "first",
        unread="norm_out|proj_out",
    ),
    defaults={"nag": {"pooled": "own"}},
)
