"""What a text is to diffusers' denoising loops with a guider: how it is encoded, and under which names they hand it over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from negguide.methods.step import Embedded
from negguide.types import PipelineLike

Encoded = Mapping[str, object]
"""What a text encoder gives for one text, by the names of the modular pipelines: tensors (1, ...), lists of one tensor, None."""

_NAMES: dict[str, tuple[str, ...]] = {
    "prompt_embeds": ("prompt_embeds",),
    "encoder_hidden_states": ("prompt_embeds",),
    "cap_feats": ("prompt_embeds",),
    "text_embeds": ("pooled_prompt_embeds",),
    "pooled_projections": ("pooled_prompt_embeds",),
    "encoder_hidden_states_mask": ("prompt_embeds_mask",),
    "encoder_attention_mask": ("prompt_attention_mask", "prompt_embeds_mask"),
    "encoder_hidden_states_2": ("prompt_embeds_2",),
    "encoder_attention_mask_2": ("prompt_embeds_mask_2",),
}
"""What denoisers call the parts of a text, and what text encoders call them."""
_EMBEDS = ("prompt_embeds", "encoder_hidden_states", "cap_feats")
_OF_LENGTH = frozenset({"txt_ids"})
"""Positions of the text's tokens: the same for all texts of one length."""
_AS_UNCONDITIONAL = frozenset({"time_ids", "image_embeds", "hidden_states"})
"""What a negative shares with the unconditional."""
_OUTPUTS = sorted({name for names in _NAMES.values() for name in names})
_CLASSIC: dict[str, tuple[str, ...]] = {
    "HunyuanImage": ("prompt_embeds", "prompt_embeds_mask", "prompt_embeds_2", "prompt_embeds_mask_2"),
    "HunyuanVideo15": ("prompt_embeds", "prompt_embeds_mask", "prompt_embeds_2", "prompt_embeds_mask_2"),
    "MotifVideo": ("prompt_embeds", "", "prompt_attention_mask", ""),
}
"""What `encode_prompt` returns in the pipeline classes that own a guider, by the start of the class name."""
_INSTEAD = "use negguide.attach with the pipeline"


def encode(pipe: Any, prompt: str, options: Mapping[str, object]) -> Encoded:
    """One text, encoded by the text block of a modular pipeline, or by a pipeline class that owns a guider.

    `options`: further inputs of that block, or arguments of `encode_prompt`. Raises `TypeError` for any other pipeline and for
    options that it does not take.
    """
    block = getattr(getattr(pipe, "blocks", None), "sub_blocks", {}).get("text_encoder")
    if block is not None:
        return _by_block(pipe, block, prompt, options)
    name = type(pipe).__name__
    outputs = next((names for start, names in _CLASSIC.items() if name.startswith(start)), None)
    if outputs is None:
        raise TypeError(
            "encode needs a modular pipeline with a block 'text_encoder', or a pipeline class that owns a guider "
            f"({', '.join(_CLASSIC)}), got {name}; otherwise give Negative(embeds=..., pooled=...)"
        )
    with torch.no_grad():
        return dict(zip(outputs, pipe.encode_prompt(prompt, **options), strict=True))


def _by_block(pipe: PipelineLike, block: Any, prompt: str, options: Mapping[str, object]) -> Encoded:
    from diffusers.modular_pipelines.modular_pipeline import PipelineState

    inputs = {given.name: given for given in block.inputs if given.name is not None}
    if wrong := [name for name in options if name not in inputs]:
        possible = ", ".join(sorted(inputs.keys() - {"prompt"}))
        raise TypeError(f"the text block of {type(pipe).__name__} takes no {', '.join(wrong)}; possible: {possible}")
    needs = [name for name, given in inputs.items() if given.required and name != "prompt" and name not in options]
    if needs:
        raise NotImplementedError(f"the text block of {type(pipe).__name__} reads {', '.join(needs)} too; {_INSTEAD}")
    state = PipelineState()
    values = {name: given.default for name, given in inputs.items() if given.default is not None}
    for name, value in {**values, **options, "prompt": prompt}.items():
        state.set(name, value)
    with torch.no_grad():
        block(pipe, state)
    return {name: state.get(name) for name in _OUTPUTS}


def laid_over(data: Mapping[str, object], text: Encoded | Embedded) -> dict[str, object]:
    """A text under the names of a denoising loop, with a row for each image.

    Args:
        data: what the loop hands its guider: values for all, or (prompt, unconditional).
        text: as encoded, or embeddings of the user's.

    Raises:
        NotImplementedError: if a value that differs between prompt and unconditional has an unknown name.
        ValueError: for missing pooled embeddings, rows that fit no image, or positions of another number of tokens.
    """
    pairs = {name: _like(value) for name, value in data.items() if isinstance(value, tuple)}
    unknown = [name for name in pairs if name not in _NAMES and name not in _AS_UNCONDITIONAL | _OF_LENGTH]
    if unknown or not any(name in data for name in _EMBEDS):
        raise NotImplementedError(
            f"this pipeline hands its text over as {', '.join(data)}, and how a negative fills {', '.join(unknown) or 'them'} "
            f"is not known; {_INSTEAD}"
        )
    values = {name: _like(value) for name, value in data.items() if name in _NAMES}
    rows = len(next(values[name] for name in _EMBEDS if name in values))
    laid = {}
    for name, like in values.items():
        value = _part(text, name, like)
        if value is not None:
            laid[name] = _rows(value, like, rows, text)
    _check_lengths(pairs, laid)
    return laid


def embeds_in(laid: Mapping[str, Any]) -> Tensor:
    """The token embeddings (B, L, C) of a text laid over what a loop hands to the denoiser."""
    embeds: Tensor = next(laid[name] for name in _EMBEDS if name in laid)
    return embeds


def mask_in(laid: Mapping[str, Any]) -> Tensor | None:
    """Its attention mask (B, L) of ones and zeros, where the denoiser takes one."""
    masks = (laid.get(name) for name in ("encoder_attention_mask", "encoder_hidden_states_mask"))
    return next((mask for mask in masks if mask is not None), None)


def _like(value: object) -> Any:
    """The unconditional's value, or the prompt's where that has none."""
    return next((part for part in reversed(value) if part is not None), None) if isinstance(value, tuple) else value


def _part(text: Encoded | Embedded, name: str, like: object) -> object:
    names = _NAMES[name]
    if not isinstance(text, Embedded):
        value = next((text[key] for key in names if text.get(key) is not None), None)
    elif names == ("prompt_embeds",):
        value = text.embeds if text.embeds.ndim == 3 else text.embeds.unsqueeze(0)
    elif names == ("pooled_prompt_embeds",):
        value = None if text.pooled is None else text.pooled.reshape(-1, text.pooled.shape[-1])
    elif names[-1] == "prompt_embeds_mask":
        value = None if like is None else torch.ones(text.embeds.shape[-2]).unsqueeze(0)
    else:
        raise ValueError(f"{text} has no second text encoder's embeddings, which this pipeline needs; give a text")
    if value is None and like is not None:
        what = "pooled embeddings" if "pooled_prompt_embeds" in names else name
        raise ValueError(
            f"{text if isinstance(text, Embedded) else 'a negative'} has no {what}; this pipeline needs them"
        )
    return value


def _rows(value: Any, like: Any, rows: int, text: Encoded | Embedded) -> object:
    if len(value) not in (1, rows):
        what = text if isinstance(text, Embedded) else "a negative"
        raise ValueError(f"{what} has {len(value)} rows for {rows} images; give one row")
    if isinstance(like, list):
        each = [part.to(like[0]) for part in value]
        return each * rows if len(each) == 1 else each
    value = value if like is None else value.to(like)
    return value.expand(rows, *value.shape[1:])


def _check_lengths(pairs: Mapping[str, Any], laid: Mapping[str, Any]) -> None:
    for name in _OF_LENGTH & pairs.keys():
        tokens, places = embeds_in(laid).shape[1], pairs[name].shape[-2]
        if tokens != places:
            raise ValueError(
                f"a negative has {tokens} tokens where this pipeline counts {places}; give {places}, padded as the prompt is"
            )
