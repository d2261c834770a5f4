"""Attention layers of transformers with double blocks (image | text) and then single ones (text and image in a row)."""

from negguide.pipeline.families.family import ImageModules, Rule


def double_and_single(*denoisers: str) -> tuple[Rule, ...]:
    """The layers of Flux and of those who follow it."""
    return (
        Rule(denoisers, r"transformer_blocks\.\d+\.attn", "joint"),
        Rule(denoisers, r"single_transformer_blocks\.\d+\.attn", "joint", "last"),
    )


def image_modules(*denoisers: str) -> ImageModules:
    """The image stream of the double blocks; single blocks have image and text in one stream."""
    return ImageModules(
        denoisers, r"transformer_blocks\.\d+\.(?:norm1|norm2|ff|attn\.(?:to_q|to_k|to_v|norm_q|norm_k|to_out\.0))"
    )
