"""Lumina-Image 2.0."""

from negguide.pipeline.families.family import Family
from negguide.pipeline.own_rescale import norm_of_cond

FAMILY = Family(
    "Lumina 2",
    ("Lumina2",),
    post=norm_of_cond,
    refused={"cfg_trunc_ratio": lambda value: value is not None and value < 1.0},
)
