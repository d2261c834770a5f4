"""Chroma: Flux without guidance distillation, with classifier-free guidance."""

from negguide.integration.families.double_and_single import double_and_single
from negguide.integration.families.family import Family

FAMILY = Family(
    "Chroma",
    ("Chroma",),
    shared=("txt_ids", "img_ids"),
    layers=double_and_single("ChromaTransformer2DModel"),
)
