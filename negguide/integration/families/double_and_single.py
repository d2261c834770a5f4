"""Attention layers of transformers with double blocks (image | text) and then single ones (text and image in a row)."""

from negguide.integration.families.family import Rule


def double_and_single(*denoisers: str) -> tuple[Rule, ...]:
    """The layers of Flux and of those who follow it."""
    return (
        Rule(denoisers, r"transformer_blocks\.\d+\.attn", "joint"),
        Rule(denoisers, r"single_transformer_blocks\.\d+\.attn", "joint", "last"),
    )
