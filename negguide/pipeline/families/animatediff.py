"""AnimateDiff and PIA: the UNet of Stable Diffusion with motion modules, which has a row for each frame, of the text too."""

from negguide.pipeline.argument_tree import RowLayout
from negguide.pipeline.families.family import Family, Rule

_BLOCKS = r"(?:down_blocks\.\d+|mid_block|up_blocks\.\d+)\.attentions\.\d+\.transformer_blocks\.\d+\."
_DENOISER = ("UNetMotionModel",)
FAMILY = Family(
    "AnimateDiff",
    ("AnimateDiff", "PIA"),
    rows=RowLayout(
        per_frame=(
            "encoder_hidden_states",
            "added_cond_kwargs",
            "down_block_additional_residuals",
            "mid_block_additional_residual",
        )
    ),
    live_scale=True,
    layers=(
        Rule(_DENOISER, _BLOCKS + "attn1", "self"),
        Rule(_DENOISER, _BLOCKS + "attn2", "cross"),
    ),
)
