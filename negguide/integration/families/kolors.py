"""Kolors: SDXL's UNet whose text ChatGLM reads."""

from negguide.integration.families.family import Family
from negguide.integration.families.unet import UNET_LAYERS

FAMILY = Family("Kolors", ("Kolors",), live_scale=True, layers=UNET_LAYERS)
