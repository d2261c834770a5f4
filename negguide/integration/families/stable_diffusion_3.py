"""Stable Diffusion 3 and 3.5."""

from negguide.integration.families.family import Family, Rule

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
)
