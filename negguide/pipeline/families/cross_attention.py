"""Attention layers of transformers whose blocks attend to the image and then to the text."""

from negguide.pipeline.families.family import Rule


def cross_attention(*denoisers: str, text_path: tuple[str, ...] | None = None) -> tuple[Rule, ...]:
    """Self-attention `attn1` and cross-attention `attn2` of every block; `text_path`: see `Rule`."""
    return (
        Rule(denoisers, r"(?:transformer_)?blocks\.\d+\.attn1", "self"),
        Rule(denoisers, r"(?:transformer_)?blocks\.\d+\.attn2", "cross", text_path=text_path),
    )
