"""Lumina-Next, whose attention layers leave their output projection to the block."""

from negguide.pipeline.families.family import Family, Rule
from negguide.pipeline.own_rescale import of_first_channels

_DENOISER = ("LuminaNextDiT2DModel",)
FAMILY = Family(
    "Lumina-Next",
    ("Lumina",),
    cond_first=True,
    post=of_first_channels,
    layers=(
        Rule(_DENOISER, r"layers\.\d+\.attn1", "self", projects=False),
        Rule(_DENOISER, r"layers\.\d+\.attn2", "cross", projects=False),
    ),
)
