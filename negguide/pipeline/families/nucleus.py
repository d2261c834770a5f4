"""Nucleus-Image, whose image tokens attend to text and image; the text stays as it is."""

from negguide.pipeline.argument_tree import RowLayout
from negguide.pipeline.families.family import Family, Rule
from negguide.pipeline.own_rescale import norm_of_cond

FAMILY = Family(
    "Nucleus-Image",
    ("NucleusMoEImage",),
    rows=RowLayout(batches=("img_shapes",)),
    post=norm_of_cond,
    layers=(Rule(("NucleusMoEImageTransformer2DModel",), r"transformer_blocks\.\d+\.attn", "joint"),),
)
