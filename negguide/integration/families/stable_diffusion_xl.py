"""Stable Diffusion XL."""

from negguide.integration.families.family import Family
from negguide.integration.families.unet import UNET_LAYERS

FAMILY = Family("Stable Diffusion XL", ("StableDiffusionXL",), live_scale=True, layers=UNET_LAYERS)
