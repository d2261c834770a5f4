"""Lumina-Next."""

from negguide.pipeline.families.family import Family
from negguide.pipeline.own_rescale import of_first_channels

FAMILY = Family("Lumina-Next", ("Lumina",), cond_first=True, post=of_first_channels)
