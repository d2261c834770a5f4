"""Embeddings that the user gave: conditions that are embeddings, and texts beside a prompt of embeddings of any length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from negguide.methods.step import Embedded
from negguide.pipeline import argument_tree
from negguide.pipeline.families import unsupported
from negguide.pipeline.guidance import probe_of_text

if TYPE_CHECKING:
    from negguide.pipeline.plan_data import PlanData
    from negguide.pipeline.probe import Probe

_TEXT = "encoder_hidden_states"
_MASKS = ("prompt_attention_mask", "prompt_embeds_mask")
"""Arguments of pipelines that say which tokens of given embeddings count."""


def overlay(plan: PlanData, prompt: Embedded) -> dict[argument_tree.Path, object]:
    """What to lay over the reference call of a plan to ask for embeddings.

    Raises:
        ValueError: For embeddings whose shape does not fit the call, or pooled ones where the pipeline needs or takes none.
        Unsupported: For pipelines that take no embeddings.
    """
    probed = probe_of_text(plan.pipe, plan.call, plan.denoisers, {**_arguments(plan, prompt), **plan.changes})
    like = plan.stood()
    result = plan.overlay_of(probed)
    for path, value in result.items():
        stood = _at(like, path)
        if isinstance(value, Tensor) and isinstance(stood, Tensor) and value.is_floating_point():
            result[path] = value.to(stood.device, stood.dtype)
    return result


def texts_alone(plan: PlanData, arguments: Mapping[str, Any]) -> Probe:
    """What the pipeline asks for the negative texts of a call whose prompt is given as embeddings, without these.

    For embeddings of a length that the text encoder cannot make (several windows, as compel joins them): the pipeline
    itself would encode the negative at the very length of the prompt. Where all its text encoders are CLIP, the text is then
    followed by windows of the empty text up to that length, as compel pads it.
    """
    texts = arguments.get("negative_prompt")
    texts = plan.call.texts("") if texts is None else texts
    probed = _alone(plan, arguments, texts)
    length = plan.stood()[_TEXT].shape[1] if isinstance(plan.stood().get(_TEXT), Tensor) else 0
    first = probed.asked[0].named.get(_TEXT)
    if not isinstance(first, Tensor) or first.ndim != 3 or first.shape[1] >= length or not _is_clip_only(plan.pipe):
        return probed
    blank = _alone(plan, arguments, "" if isinstance(texts, str) else [""] * len(texts))
    for asked, empty in zip(probed.asked, blank.asked, strict=True):
        windows = -(-length // first.shape[1]) - 1
        parts = [asked.named[_TEXT], *[empty.named[_TEXT]] * windows]
        asked.named[_TEXT] = torch.cat(parts, dim=1)[:, :length]
    return probed


def _alone(plan: PlanData, arguments: Mapping[str, object], texts: object) -> Probe:
    dropped = ("prompt", "pooled_prompt", "negative_")
    kept = {key: value for key, value in arguments.items() if not key.startswith(dropped) or "ip_adapter" in key}
    return probe_of_text(plan.pipe, plan.call, plan.denoisers, {**kept, "prompt": texts, "negative_prompt": texts})


def _arguments(plan: PlanData, prompt: Embedded) -> dict[str, object]:
    """The call with embeddings as its prompt and, where it takes one, as its negative prompt."""
    call, name = plan.call, plan.call.cls.__name__
    parameters = call.parameters
    if "prompt_embeds" not in parameters:
        raise unsupported(
            f"{name}: a negative of embeddings", "its call takes no prompt_embeds; give the negative as a text"
        )
    pooled = "pooled_prompt_embeds" in parameters
    if pooled != (prompt.pooled is not None):
        shape = tuple(prompt.embeds.shape)
        raise ValueError(
            f"{name} needs pooled embeddings (D,) or (1, D) beside {shape}: Negative(embeds=..., pooled=...)"
            if pooled
            else f"{name} takes no pooled embeddings; give Negative(embeds=...) alone"
        )
    count = call.prompt_count or 1
    device = getattr(plan.pipe, "_execution_device", prompt.embeds.device)
    rows = _rows(prompt.embeds, 3, count).to(device)
    given: dict[str, object] = {"prompt_embeds": rows}
    if prompt.pooled is not None:
        given["pooled_prompt_embeds"] = _rows(prompt.pooled, 2, count).to(device)
    for mask in _MASKS:
        if mask in parameters:
            given[mask] = torch.ones(rows.shape[:2], dtype=torch.long, device=device)
    if (
        "ist[" in str(parameters["prompt_embeds"].annotation).partition("|")[0]
    ):  # Z-Image: a list with a tensor a prompt
        given["prompt_embeds"] = list(rows.unbind(0))
    dropped = ("prompt", "pooled_prompt", "negative_")
    kept = {key: value for key, value in call.probing().items() if not key.startswith(dropped) or "ip_adapter" in key}
    both = given | {f"negative_{key}": value for key, value in given.items() if f"negative_{key}" in parameters}
    # Some have an empty text by default, beside which they take no embeddings.
    texts = {key: None for key, parameter in parameters.items() if key.startswith(dropped) and parameter.default == ""}
    return {**kept, **texts, **both}


def _rows(value: Tensor, ndim: int, count: int) -> Tensor:
    """One row per prompt of the call."""
    value = value.unsqueeze(0) if value.ndim == ndim - 1 else value
    if value.shape[0] not in (1, count):
        raise ValueError(
            f"a negative's embeddings have shape {tuple(value.shape)}, the call has {count} prompt(s); give one row for all "
            "of them, or one for each"
        )
    return value if value.shape[0] == count else value.expand(count, *value.shape[1:])


def _is_clip_only(pipe: object) -> bool:
    tokenizers = [getattr(pipe, f"tokenizer{end}", None) for end in ("", "_2", "_3", "_4")]
    return all("CLIP" in type(tokenizer).__name__ for tokenizer in tokenizers if tokenizer is not None)


def _at(named: object, path: argument_tree.Path) -> object:
    try:
        return argument_tree.at(named, path)
    except (KeyError, IndexError, TypeError):
        return None
