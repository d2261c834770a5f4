"""What should stand in the place of a negative: checked, and as a condition."""

from __future__ import annotations

from collections.abc import Sequence

from negguide.methods.emphasis import literal
from negguide.methods.step import Condition

Anchor = str | tuple[str, ...] | None
"""One text, one for each prompt of the call, or none."""


def as_anchor(value: object, prompt: object) -> Anchor:
    """Validates `instead_of` of a negative that says `prompt`.

    Args:
        value: None, a text, or a sequence of texts, one for each text of `prompt`.
        prompt: what the negative says.

    Returns:
        None, the text, or a tuple of texts.

    Raises:
        TypeError: For what is no text.
        ValueError: For empty texts, another number of texts than the negative has, and the negative's own text.
    """
    if value is None:
        return None
    anchor = value if isinstance(value, str) else tuple(value) if isinstance(value, Sequence) else None
    if anchor is None or not all(isinstance(text, str) for text in anchor):
        raise TypeError(f"instead_of is {value!r}; possible: a text, or a tuple with one text for each prompt")
    texts = (anchor,) if isinstance(anchor, str) else anchor
    said = prompt if isinstance(prompt, tuple) else (prompt,) * len(texts)
    if isinstance(anchor, tuple) and (not isinstance(prompt, tuple) or len(said) != len(texts)):
        raise ValueError(
            f"instead_of has {len(texts)} texts for the negative {prompt!r}; give one text, or as many as the negative has"
        )
    for text, negative in zip(texts, said, strict=False):
        if not text.strip() and (not isinstance(negative, str) or negative.strip()):
            raise ValueError(
                f"instead_of {value!r} is empty; say what should stand there, e.g. instead_of='pet', or None"
            )
        if text.strip() and text == negative:
            raise ValueError(f"{negative!r} instead of itself has no effect; say what should stand there")
    return anchor


def condition_of(anchor: Anchor) -> Condition | None:
    """The prediction that an anchor needs."""
    if anchor is None:
        return None
    if isinstance(anchor, str):
        return Condition(literal(anchor))
    return Condition(tuple(literal(text) if text.strip() else None for text in anchor))
