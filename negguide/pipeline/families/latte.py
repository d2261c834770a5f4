"""Latte, whose spatial blocks have a row for each frame."""

from negguide.pipeline.families.cross_attention import cross_attention
from negguide.pipeline.families.family import Family

FAMILY = Family("Latte", ("Latte",), layers=cross_attention("LatteTransformer3DModel"))
