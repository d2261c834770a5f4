"""Rows that ride along in a denoiser call: other texts for the same latents, appended texts, reference pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from negguide.engine.attention_hooks import COND, ExtraRows, groups_of
from negguide.methods.tokens import Label
from negguide.pipeline import argument_tree
from negguide.pipeline.families import Unsupported
from negguide.pipeline.layout import stacked
from negguide.pipeline.plan import Plan
from negguide.pipeline.text_tokens import MASKS, kept

_TEXTS = ("encoder_hidden_states", "encoder_hidden_states_t5", "encoder_hidden_states_llama3", "text_encoder_layers")
_TOKEN_WISE = (
    *_TEXTS,
    *MASKS,
    "txt_ids",
    "attention_mask",
    "text_embedding_mask",
    "text_embedding_mask_t5",
    "text_rope_pos",
    "position_ids",
    "joint_attention_kwargs",
)
"""Arguments with a row for each token of the text, of one or several text encoders."""
_LENGTHS = "txt_seq_lens"
"""How many tokens each text has, which Qwen-Image's denoiser is told in older diffusers, 0.35 among them."""


@dataclass(frozen=True)
class PackedCall:
    """One forward: its arguments, whose rows they are, the lie of appended texts (key -> tokens), all its rows."""

    named: Mapping[str, object]
    labels: tuple[Label, ...]
    parts: Mapping[int | None, slice]
    rows: int


def pack(
    plan: Plan,
    wanted_rows: ExtraRows,
    calls: Mapping[int, Mapping[str, object]],
    call_for: Callable[[Any, int], Mapping[str, object]],
    denoiser_call: Any,
) -> PackedCall:
    """The forward for `calls` (key -> arguments) with the riders of each.

    Raises `Unjoinable` if the calls do not fit together, `Unsupported` if a rider does not fit to its call.
    """
    family = plan.family
    named = dict(calls)
    parts: dict[int | None, slice] = {}
    if COND in named and wanted_rows.appended:
        if family.fixed_text(getattr(plan.denoisers[denoiser_call.name], "config", {})):
            raise Unsupported(
                f"{family.name}: texts cannot be appended, since this model takes a fixed number of text tokens, or is told of each"
            )
        calls_of = {key: call_for(denoiser_call, key) for key in wanted_rows.appended}
        words = {key: kept(plan.pipe, _text_of(plan, key), call) for key, call in calls_of.items()}
        named[COND], *others = _levelled([named[COND], *calls_of.values()], longer=False)
        extra = dict(zip(wanted_rows.appended, others, strict=True))
        named[COND], parts = _appended(named[COND], extra, words)
    labels: list[Label] = [("main", key) for key in named]
    rows = list(named.values())
    whole = argument_tree.join(rows, plan.rows, family.rows)
    if COND in named and wanted_rows.companions:
        labels += [("companion", key) for key in wanted_rows.companions]
        rows = _levelled(
            [
                *rows,
                *(
                    _companion(plan, wanted_rows, key, call_for(denoiser_call, key), named[COND])
                    for key in wanted_rows.companions
                ),
            ]
        )
        try:
            whole = argument_tree.join(rows, plan.rows, family.rows)
        except argument_tree.Unjoinable as error:
            if len(calls) > 1:
                raise
            raise Unsupported(
                f"{family.name}: the text of a companion does not fit beside the prompt's in one forward (argument "
                f"{'.'.join(map(str, error.args[0]))}); texts of the same length are needed"
            ) from error
    count = len(labels) * plan.rows
    if wanted_rows.references is not None:
        whole, extra_rows = _with_references(plan, whole, wanted_rows.references, len(named), count)
        count += extra_rows
    return PackedCall(whole, tuple(labels), parts, count)


def _companion(
    plan: Plan, wanted_rows: ExtraRows, key: int, call: Mapping[str, object], cond: Mapping[str, object]
) -> dict[str, object]:
    """The call of a companion: all that the conditional call says about the picture, and its own text.

    Its own text are texts of tokens (B, L, ...) and, with `pooled="own"`, whatever else the text determines. Pooled vectors are
    else the prompt's, since they modulate the image stream, which would then part from that of the prompt.
    """
    determined = {path[0] for path in plan.overlays[key]} if wanted_rows.pooled == "own" else set()
    return {
        **cond,
        **{
            name: value
            for name, value in call.items()
            if name != plan.main and (name in determined or _is_token_wise(name, value))
        },
    }


def _levelled(calls: Sequence[Mapping[str, Any]], longer: bool = True) -> list[Mapping[str, object]]:
    """The calls with masks in all or in none of them; `longer`: and, by these, with texts of the same length.

    For denoisers whose texts are not padded (Qwen-Image); others come back as they are.
    """
    name = next((name for name in MASKS if all(name in call for call in calls)), None)
    texts: list[Any] = [call.get("encoder_hidden_states") for call in calls]
    if name is None or not all(isinstance(text, Tensor) and text.ndim == 3 for text in texts):
        return list(calls)
    masks = [call[name] for call in calls]
    lengths = [text.shape[1] for text in texts]
    if not (longer and len(set(lengths)) > 1) and len({mask is None for mask in masks}) == 1:
        return list(calls)
    like = next((mask for mask in masks if mask is not None), torch.ones((), dtype=torch.long))
    result: list[Mapping[str, object]] = []
    for call, text, mask in zip(calls, texts, masks, strict=True):
        mask = text.new_ones(text.shape[:2], dtype=like.dtype) if mask is None else mask
        more = max(lengths) - text.shape[1] if longer else 0
        pad = torch.nn.functional.pad
        result.append({**call, "encoder_hidden_states": pad(text, (0, 0, 0, more)), name: pad(mask, (0, more))})
    return result


def _with_references(
    plan: Plan, named: Mapping[str, object], references: Tensor, mains: int, rows: int
) -> tuple[dict[str, object], int]:
    """The call with the reference pictures behind its rows: for each main branch, each group, each picture."""
    family, layout = plan.family, plan.layout
    groups, count = groups_of(plan), references.shape[1]
    extra = [branch * plan.rows + group[0] for branch in range(mains) for group in groups for _ in range(count)]
    longer = argument_tree.extended(named, extra, rows, family.rows)
    value = longer[plan.main]
    whole = stacked(value)
    latents = references.flatten(0, 1).repeat(mains, *(1 for _ in layout.sample_shape[1:]))
    tail = layout.placed(whole[rows:], latents.to(whole.device))
    filled = torch.cat([whole[:rows], tail])
    longer[plan.main] = list(filled.unbind(0)) if isinstance(value, (list, tuple)) else filled
    return longer, len(extra)


def _text_of(plan: Plan, key: int) -> str:
    """The text of a key."""
    prompts = (c.prompt for c, its_key in plan.keys.items() if its_key == key)
    return next((prompt for prompt in prompts if isinstance(prompt, str)), "")


def _appended(
    call: Mapping[str, Any], extra: Mapping[int, Mapping[str, Any]], words: Mapping[int, list[int]]
) -> tuple[dict[str, object], dict[int | None, slice]]:
    """The call with the words of other texts before its own text, and where each of them stands.

    Before it, since behind it their distance from the words, which some models encode, would depend on the padding.
    """
    result, start = dict(call), 0
    parts: dict[int | None, slice] = {}
    for key in reversed(tuple(extra)):
        other, tokens = extra[key], words[key]
        for name, value in other.items():
            if name in result:
                result[name] = _lengthened(name, result[name], value, other["encoder_hidden_states"].shape[1], tokens)
    for key, tokens in words.items():
        parts[key] = slice(start, start + len(tokens))
        start += len(tokens)
    parts[None] = slice(start, result["encoder_hidden_states"].shape[1])
    if isinstance(result.get(_LENGTHS), list):
        result[_LENGTHS] = [length + start for length in result[_LENGTHS]]
    return result, parts


def _lengthened(name: str, before: Any, other: Any, length: int, tokens: list[int]) -> object:
    """An argument with the places of some tokens of another call's text, of `length` tokens, before its own."""
    axis = _text_axis(name, other, length)
    if axis is None or not isinstance(before, Tensor):
        return before
    part = other.index_select(axis, torch.tensor(tokens, device=other.device))
    return torch.cat([part.to(before), before], dim=axis)


def _is_token_wise(name: str, value: object) -> bool:
    """Whether an argument speaks of single text tokens."""
    return name in _TOKEN_WISE or (isinstance(value, list) and name.startswith("cap_"))


def _text_axis(name: str, value: object, length: int) -> int | None:
    """The axis of text tokens in a denoiser argument."""
    if not isinstance(value, Tensor):
        return None
    if name == "encoder_hidden_states" or name in MASKS:
        return 1
    if name in ("text_rope_pos", "position_ids"):
        # Krea 2's holds the text's tokens and, behind them, the picture's.
        return 0 if value.shape[0] == length or (name == "position_ids" and value.shape[0] > length) else None
    if name == "attention_mask" and value.ndim == 2 and value.shape[1] > length:
        # Chroma's holds the text's tokens and, behind them, the picture's.
        return 1
    return value.ndim - 2 if name == "txt_ids" and value.shape[-2] == length else None
