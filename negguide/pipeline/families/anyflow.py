"""AnyFlow, made of Wan's blocks."""

from negguide.pipeline.families.cross_attention import cross_attention
from negguide.pipeline.families.family import Family

FAMILY = Family("AnyFlow", ("AnyFlow",), frames_axis=1, layers=cross_attention("AnyFlowTransformer3DModel"))
