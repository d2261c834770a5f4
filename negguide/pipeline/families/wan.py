"""Wan 2.1 and 2.2."""

from negguide.pipeline.families.cross_attention import cross_attention
from negguide.pipeline.families.family import Family

FAMILY = Family(
    "Wan",
    ("Wan", "LucyEdit"),
    scale_2="guidance_scale_2",
    layers=cross_attention(
        "WanTransformer3DModel",
        "WanVACETransformer3DModel",
        "WanAnimateTransformer3DModel",
        text_path=("condition_embedder.text_embedder",),
    ),
    defaults={"nag": {"scale": 9.0, "tau": 2.5, "alpha": 0.25}},
)
