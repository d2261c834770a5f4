"""Kolors: SDXL's UNet whose text ChatGLM reads."""

from negguide.pipeline.families.family import Family
from negguide.pipeline.families.unet import UNET_LAYERS

FAMILY = Family("Kolors", ("Kolors",), live_scale=True, layers=UNET_LAYERS)
