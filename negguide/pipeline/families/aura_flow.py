"""AuraFlow."""

from negguide.pipeline.families.family import Family, Rule

_DENOISER = ("AuraFlowTransformer2DModel",)
FAMILY = Family(
    "AuraFlow",
    ("AuraFlow",),
    layers=(
        Rule(_DENOISER, r"joint_transformer_blocks\.\d+\.attn", "joint"),
        Rule(_DENOISER, r"single_transformer_blocks\.\d+\.attn", "joint", "last"),
    ),
)
