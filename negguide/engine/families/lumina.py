"""Lumina-Next."""

from negguide.engine.families.family import Family
from negguide.engine.pipeline_rescale import of_first_channels

FAMILY = Family("Lumina-Next", ("Lumina",), cond_first=True, post=of_first_channels)
