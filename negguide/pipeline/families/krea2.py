"""Krea 2, whose guidance is off at scale 0."""

from negguide.pipeline.families.family import Family

FAMILY = Family("Krea 2", ("Krea2",), cfg_off={"guidance_scale": 0.0})
