"""Chroma: Flux without guidance distillation, with classifier-free guidance."""

from negguide.integration.families.double_and_single import double_and_single
from negguide.integration.families.family import Family
from negguide.integration.tree import RowLayout

FAMILY = Family(
    "Chroma",
    ("Chroma",),
    rows=RowLayout(shared=("txt_ids", "img_ids")),
    layers=double_and_single("ChromaTransformer2DModel"),
)
