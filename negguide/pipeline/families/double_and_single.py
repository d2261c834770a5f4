"""Attention layers of transformers with double blocks (image | text) and then single ones (text and image in a row)."""

from negguide.pipeline.families.family import ImageModules, Rule, Side


def double_and_single(*denoisers: str) -> tuple[Rule, ...]:
    """The layers of Flux and of those who follow it."""
    return (
        Rule(denoisers, r"transformer_blocks\.\d+\.attn", "joint"),
        Rule(denoisers, r"single_transformer_blocks\.\d+\.attn", "joint", "last"),
    )


def image_modules(*denoisers: str, side: Side = "last", projections: str = "to_q|to_k|to_v") -> ImageModules:
    """The image stream of the double blocks, that of the single blocks beside the text, and what follows the last attention.

    `projections`: those of the single blocks.
    """
    return ImageModules(
        denoisers,
        r"transformer_blocks\.\d+\.(?:norm1|norm2|ff|attn\.(?:to_q|to_k|to_v|norm_q|norm_k|to_out\.0))",
        side,
        stream=rf"single_transformer_blocks\.\d+\.(?:attn\.(?:{projections})|proj_mlp|proj_out)",
        unread=r"single_transformer_blocks\.{last}\.(?:proj_mlp|act_mlp|proj_out)|norm_out|proj_out",
    )
