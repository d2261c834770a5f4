"""Nucleus-Image."""

from negguide.pipeline.argument_tree import RowLayout
from negguide.pipeline.families.family import Family
from negguide.pipeline.own_rescale import norm_of_cond

FAMILY = Family("Nucleus-Image", ("NucleusMoEImage",), rows=RowLayout(batches=("img_shapes",)), post=norm_of_cond)
