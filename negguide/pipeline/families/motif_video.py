"""Motif-Video: double and single blocks that attend to the text once more, and a decoder that attends to the encoder's image."""

from negguide.pipeline.families.family import Family, Rule

_DENOISER = ("MotifVideoTransformer3DModel",)
FAMILY = Family(
    "Motif-Video",
    ("MotifVideo",),
    layers=(
        Rule(_DENOISER, r"transformer_blocks\.\d+\.attn", "joint"),
        Rule(_DENOISER, r"single_transformer_blocks\.\d+\.attn", "joint", values="first"),
    ),
)
