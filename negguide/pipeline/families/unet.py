"""Attention layers of the UNets that several families share."""

from negguide.pipeline.families.family import Rule

_BLOCKS = r"(?:down_blocks|mid_block|up_blocks)\b.*\.transformer_blocks\.\d+\."
UNET_LAYERS = (
    Rule(("UNet2DConditionModel",), _BLOCKS + "attn1", "self"),
    Rule(("UNet2DConditionModel",), _BLOCKS + "attn2", "cross", text_path=()),
)
