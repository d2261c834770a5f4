"""Lumina-Next."""

from negguide.integration.families.family import Family
from negguide.integration.post import of_first_channels

FAMILY = Family("Lumina-Next", ("Lumina",), cond_first=True, post=of_first_channels)
