"""Kolors: SDXL's UNet whose text ChatGLM reads."""

from negguide.engine.families.family import Family
from negguide.engine.families.unet import UNET_LAYERS

FAMILY = Family("Kolors", ("Kolors",), live_scale=True, layers=UNET_LAYERS)
