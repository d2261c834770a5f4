"""Which tokens of a text's embeddings are its words: what may be appended to another text, without padding and marks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from negguide.pipeline.families import Unsupported
from negguide.pipeline.intercept import base_class
from negguide.types import PipelineLike

MASKS = ("encoder_attention_mask", "encoder_hidden_states_mask", "encoder_mask")
"""What a denoiser's argument may be called that says which tokens of its text are words."""


def kept(pipe: object, prompt: str | tuple[str, ...], call: Mapping[str, object]) -> list[int]:
    """Positions along the token axis of `call["encoder_hidden_states"]` (B, L, C) that hold words of `prompt`.

    By the mask that the denoiser gets beside it; or else by the pipeline's tokenizers, whose marks (beginning, end) are
    left out: a CLIP text's first token draws most of the attention, whatever the text.
    Raises `Unsupported` where neither tells, `ValueError` for a text without words, and for one text per
    prompt whose numbers of tokens differ, since rows of one forward need the same length.
    """
    embeds = call.get("encoder_hidden_states")
    if not isinstance(embeds, Tensor) or embeds.ndim not in (3, 4) or embeds.shape[1] == 1:
        raise Unsupported("texts can be appended where the denoiser takes encoder_hidden_states (B, L, C) only")
    mask = next((call[name] for name in MASKS if isinstance(call.get(name), Tensor)), None)
    if isinstance(mask, Tensor) and mask.shape == embeds.shape[:2]:
        rows = [torch.nonzero(row > 0).flatten().tolist() for row in mask]
    else:
        texts = (prompt,) if isinstance(prompt, str) else prompt
        rows = [_by_tokenizers(pipe, text, embeds.shape[1]) for text in texts]
    if any(row != rows[0] for row in rows):
        raise ValueError(
            f"{prompt!r}: texts with different numbers of tokens cannot be appended in one call; give one text for all "
            "prompts, or call the pipeline once per prompt"
        )
    if not rows[0]:
        raise ValueError(f"{prompt!r} holds no words that could be appended")
    return rows[0]


def converted(pipe: object, text: str, tokenizer: object) -> str:
    """The text as the pipeline gives it to a tokenizer: a textual inversion of several vectors is a word for each."""
    convert = getattr(pipe, "maybe_convert_prompt", None)
    return convert(text, tokenizer) if convert is not None and hasattr(tokenizer, "tokenize") else text


def fingerprint(pipe: object, text: str) -> tuple[Any, ...]:
    """What the tokenizers and the embedding tables of a pipeline make of a text: tells changes of either.

    Cheap beside an encoder; what else changes in an encoder shows in any other text.
    """
    return tuple(_fingerprint(pipe, text, end) for end in ("", "_2", "_3", "_4"))


def _fingerprint(pipe: object, text: str, end: str) -> object:
    tokenizer, encoder = (getattr(pipe, f"{part}{end}", None) for part in ("tokenizer", "text_encoder"))
    if not callable(tokenizer):
        return None
    settings = tuple(str(getattr(tokenizer, name, None)) for name in ("model_max_length", "padding_side", "pad_token"))
    try:
        ids = tuple(int(token) for token in tokenizer(converted(pipe, text, tokenizer), verbose=False).input_ids)
    except Exception:  # a processor of pictures and texts
        return settings, None, None
    try:
        table = encoder.get_input_embeddings().weight  # type: ignore[union-attr]
        rows = table[torch.tensor(ids, device=table.device)].double()
        return settings, ids, tuple(torch.stack([rows.sum(), rows.abs().sum()]).tolist())
    except Exception:  # a quantised or offloaded table
        return settings, ids, None


def length(pipe: object, text: str) -> int | None:
    """Tokens of a text, marks included, by the tokenizer that makes most of it; None where none tells."""
    lengths = [part[1] for part in fingerprint(pipe, text) if part is not None]
    return None if not lengths or None in lengths else max(len(ids) for ids in lengths)


def fits(pipe: PipelineLike, arguments: Mapping[str, Any], text: str) -> bool:
    """Whether every text encoder of a pipeline reads `text` to its end, by the lengths of its tokenizers.

    CLIP's is fixed (77 with marks); the others' is the call's `max_sequence_length`, or else what their tokenizer says.
    """
    for end in ("", "_2", "_3"):
        tokenizer = getattr(pipe, f"tokenizer{end}", None)
        if not callable(tokenizer):
            continue
        longest = int(tokenizer.model_max_length)
        if "CLIP" not in type(tokenizer).__name__:
            longest = min(longest, int(arguments.get("max_sequence_length") or longest))
        if len(tokenizer(converted(pipe, text, tokenizer), verbose=False).input_ids) > longest:
            return False
    return True


def _by_tokenizers(pipe: object, text: str, length: int) -> list[int]:
    """Places of the words among `length` tokens: CLIP's; another's; or CLIP's and then the other's (SD3)."""
    tokenizers = [getattr(pipe, f"tokenizer{end}", None) for end in ("", "_2", "_3")]
    clip = next((tokenizer for tokenizer in tokenizers if "CLIP" in type(tokenizer).__name__), None)
    other = next(
        (tokenizer for tokenizer in tokenizers if tokenizer is not None and "CLIP" not in type(tokenizer).__name__),
        None,
    )
    first = 0 if clip is None else int(clip.model_max_length)
    both = tokenizers[2] is not None and other is not None
    if clip is not None and (other is None or both) and length >= first:
        behind = [first + at for at in _words(pipe, other, text, length - first)] if both and length > first else []
        return _words(pipe, clip, text, first) + behind
    if other is not None and not both:
        return _words(pipe, other, text, length)
    raise Unsupported(
        f"{base_class(pipe).__name__}: which of its {length} text tokens are words is not known, so a text cannot be appended"
    )


def _words(pipe: Any, tokenizer: Any, text: str, length: int) -> list[int]:
    ids = tokenizer(converted(pipe, text, tokenizer), truncation=True, max_length=length).input_ids
    marks = set(tokenizer.all_special_ids)
    return [at for at, token in enumerate(ids) if token not in marks]
