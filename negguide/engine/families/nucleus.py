"""Nucleus-Image."""

from negguide.engine.argument_tree import RowLayout
from negguide.engine.families.family import Family
from negguide.engine.pipeline_rescale import norm_of_cond

FAMILY = Family("Nucleus-Image", ("NucleusMoEImage",), rows=RowLayout(batches=("img_shapes",)), post=norm_of_cond)
