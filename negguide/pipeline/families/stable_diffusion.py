"""Stable Diffusion 1 and 2: text-to-image, image-to-image, inpainting, ControlNet."""

from negguide.pipeline.families.family import Family
from negguide.pipeline.families.unet import UNET_LAYERS

FAMILY = Family(
    "Stable Diffusion 1/2",
    ("StableDiffusion", "AltDiffusion"),
    live_scale=True,
    layers=UNET_LAYERS,
    defaults={"nag": {"scale": 3.0, "tau": 2.5, "alpha": 0.5}},
)
