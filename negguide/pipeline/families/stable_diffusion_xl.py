"""Stable Diffusion XL."""

from negguide.pipeline.families.family import Family
from negguide.pipeline.families.unet import UNET_LAYERS

FAMILY = Family(
    "Stable Diffusion XL",
    ("StableDiffusionXL",),
    live_scale=True,
    layers=UNET_LAYERS,
    defaults={"nag": {"scale": 3.0, "tau": 2.5, "alpha": 0.5}},
)
