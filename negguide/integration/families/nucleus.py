"""Nucleus-Image."""

from negguide.integration.families.family import Family
from negguide.integration.post import norm_of_cond
from negguide.integration.tree import RowLayout

FAMILY = Family("Nucleus-Image", ("NucleusMoEImage",), rows=RowLayout(batches=("img_shapes",)), post=norm_of_cond)
