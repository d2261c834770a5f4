"""Kandinsky 5: pictures and videos, with the channels behind."""

from negguide.pipeline.argument_tree import RowLayout
from negguide.pipeline.families.family import Family, Rule

_DENOISER = ("Kandinsky5Transformer3DModel",)
FAMILY = Family(
    "Kandinsky 5",
    ("Kandinsky5",),
    rows=RowLayout(shared=("visual_rope_pos", "text_rope_pos", "scale_factor")),
    frames_axis=1,
    channels_last=True,
    layers=(
        Rule(_DENOISER, r"visual_transformer_blocks\.\d+\.self_attention", "self"),
        Rule(_DENOISER, r"visual_transformer_blocks\.\d+\.cross_attention", "cross"),
    ),
    refused_pipelines={
        "Kandinsky5I2V": "its scheduler gets the video without its first frame, and where the others stand is not known",
    },
)
