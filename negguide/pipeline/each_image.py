"""Texts of conditions: each is encoded once, all new ones together, and their rows are put together for every call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from negguide.methods.base import EachImage
from negguide.methods.step import Embedded
from negguide.pipeline import argument_tree, text_tokens
from negguide.pipeline.plan_data import EncodedText, PlanData, Row
from negguide.pipeline.unread import bare
from negguide.pipeline.unread import unread as unread_words

if TYPE_CHECKING:
    from negguide.pipeline.probe import Probe

Prompt = str | tuple[str | None, ...] | EachImage

_MOST_TEXTS = 32
"""Texts that a plan remembers between calls."""
_MOST_TOGETHER = 16
"""Texts that are encoded in one forward."""
_FAR = 16
"""Tokens: pipelines that pad to the longest text round its length up by less."""


def spread(plan: PlanData, prompt: Prompt) -> list[str | None]:
    """The text of each image; None: the pipeline's own there. Raises `ValueError` for a wrong number."""
    if isinstance(prompt, EachImage):
        if len(prompt.texts) != plan.rows:
            raise ValueError(
                f"EachImage has {len(prompt.texts)} texts {prompt.texts!r}, the call makes {plan.rows} image(s)"
            )
        return list(prompt.texts)
    texts = plan.call.texts(prompt)
    texts = [texts] if isinstance(texts, str) else texts
    return [text for text in texts for _ in range(plan.rows // len(texts))]


def overlay(plan: PlanData, prompt: Prompt | None) -> dict[argument_tree.Path, Any]:
    """What to lay over the reference call of a plan to ask for a text, for one per prompt, or for one per image; None: as if
    no negative had been given.

    Where the rows of a family depend on each other (padding to the longest), the very list of texts is probed, with the
    call's own negative text for None.
    """
    if prompt is None:
        return _unconditional(plan)
    texts = spread(plan, prompt)
    learn(plan, [text for text in texts if text is not None])
    rows = [None if text is None else plan.texts[text].row for text in texts]
    if all(row is not None for row, text in zip(rows, texts, strict=True) if text is not None):
        gathered = _gathered(plan, rows)
        if gathered is not None:
            return gathered
    if isinstance(prompt, str) and (whole := plan.texts[prompt].whole) is not None:
        return dict(whole)
    own = plan.call.own_negatives(plan.rows)
    return plan.overlay_of(plan.probe_of_texts([o if t is None else t for t, o in zip(texts, own, strict=True)]))


def _unconditional(plan: PlanData) -> dict[argument_tree.Path, object]:
    """What to lay over the reference call to ask as if no negative had been given."""
    _check(plan, None)
    if None not in plan.texts:
        whole = plan.overlay_of(plan.probe_of(None))
        plan.texts[None] = EncodedText(None, whole, text_tokens.fingerprint(plan.pipe, ""))
    return dict(plan.texts[None].whole or {})


def learn(plan: PlanData, texts: Sequence[str]) -> None:
    """Encode those texts that are not known, together where the pipeline can, each alone where it cannot."""
    for text in dict.fromkeys(texts):
        _check(plan, text)
    new = [text for text in dict.fromkeys(texts) if text not in plan.texts]
    size = _MOST_TOGETHER if plan.call.is_alike_for_all or plan.rows == 1 else plan.rows
    for start in range(0, len(new), size):
        part = new[start : start + size]
        rows = _together(plan, part) if len(part) > 1 else None
        for at, text in enumerate(part):
            if rows is not None:
                _keep(plan, text, rows[at])
            elif text not in plan.texts:
                _alone(plan, text)


def unread(plan: PlanData, prompt: Prompt | Embedded | None) -> Iterator[str]:
    """A sentence for each tokenizer that leaves out words of texts, which are encoded already."""
    if prompt is None or isinstance(prompt, Embedded):
        return
    others = [*plan.call.own_prompts(plan.rows), *(text for text in plan.texts if text is not None)]
    limit = plan.call.complete.get("max_sequence_length")
    for text in dict.fromkeys(spread(plan, prompt)):
        if text is not None:
            yield from unread_words(plan.pipe, plan.cuts, text, others, limit)


def refuse_silence(plan: PlanData, prompt: Prompt) -> None:
    """For a text that makes no difference: raises `ValueError` if it says something else than what stands there."""
    if plan.guides:
        own = plan.call.own_negatives(plan.rows)
        is_given = plan.call.complete.get("negative_prompt") is not None or not plan.call.has_negative
    else:
        own, is_given = plan.call.own_prompts(plan.rows), plan.call.complete.get("prompt") is not None
    for text, there in zip(spread(plan, prompt), own, strict=True):
        if is_given and text is not None and bare(text) != bare(there):
            raise ValueError(
                f"the text {text!r} changes nothing of what {plan.call.cls.__name__} asks its denoiser, so it would have no "
                f"effect: the pipeline feeds for it what it feeds for {there!r}. Perhaps its __call__ does not hand "
                f"{plan.through}= on, or its text encoder does not read these words"
            )


def forget_old(plan: PlanData) -> None:
    """Between calls only the newest texts are remembered."""
    while len(plan.texts) > _MOST_TEXTS:
        plan.texts.pop(next(iter(plan.texts)))


def _check(plan: PlanData, text: str | None) -> None:
    """Once in a call: forget a text that tokenizers or embedding tables now read otherwise."""
    if text in plan.texts and text not in plan.checked:
        encoded = plan.texts.pop(text)
        if encoded.print == text_tokens.fingerprint(plan.pipe, text or ""):
            plan.texts[text] = encoded  # the newest last
    plan.checked.add(text)


def _keep(plan: PlanData, text: str, row: Row | None, whole: Mapping[argument_tree.Path, object] | None = None) -> None:
    plan.texts[text] = EncodedText(row, whole, text_tokens.fingerprint(plan.pipe, text))


def _alone(plan: PlanData, text: str) -> Row | None:
    """Encode one text for all images."""
    probed = plan.probe_of(text)
    rows = _rows_of(plan, probed, plan.rows)
    if rows is None:
        _keep(plan, text, None, plan.overlay_of(probed))
        return None
    _keep(plan, text, rows[0])
    return rows[0]


def _together(plan: PlanData, texts: Sequence[str]) -> list[Row] | None:
    """Encode several texts as if each had an image; None where that is not what the pipeline makes of each alone.

    It is where padding is masked, and where all are padded far beyond the longest, so to a fixed length. Elsewhere the
    shortest is asked for alone as well: its encoders answer from memory, unless its length now is another one.
    """
    try:
        probed = plan.probe_of_texts(texts)
    except Exception:  # some pipelines make one picture at a time; what is wrong with a text shows when it stands alone
        return None
    rows = _rows_of(plan, probed, len(texts))
    if rows is None:
        return None
    if all(_is_masked(row) for row in rows) or _is_far_padded(plan, texts, rows):
        return rows
    shortest = min(range(len(texts)), key=lambda at: len(texts[at]))
    alone = _alone(plan, texts[shortest])
    return rows if alone is not None and _agree(rows[shortest], alone) else None


def _rows_of(plan: PlanData, probed: Probe, count: int) -> list[Row] | None:
    """The rows of `count` texts in what a probe asked; None where what depends on the text has no rows."""
    if probed.asked[0].rows != plan.asked_rows(count):
        return None
    layout, named, stood = plan.family.rows, plan.texts_in(probed, count), plan.stood()
    leaves: dict[argument_tree.Path, object] = {}
    argument_tree.rebuild(named, leaves.__setitem__, layout.batches)
    for path, leaf in leaves.items():
        if not plan.is_text(path):
            continue
        before = argument_tree.at(stood, path)
        if not argument_tree.has_rows(path, leaf, count, layout):
            if not argument_tree.same(leaf, before):
                return None
        elif any(
            not argument_tree.same(
                argument_tree.row(leaf, at, path, layout, count),
                _row_of(plan, path, before, at if count == plan.rows else 0),
            )
            for at in range(count)
        ):
            plan.text_paths[path] = None
    kept = [
        path for path in plan.text_paths if path in leaves and argument_tree.has_rows(path, leaves[path], count, layout)
    ]
    return [
        {path: _copy(argument_tree.row(leaves[path], at, path, layout, count)) for path in kept} for at in range(count)
    ]


def _row_of(plan: PlanData, path: argument_tree.Path, leaf: object, at: int) -> object:
    """A row of an argument of the reference call; ABSENT where it has none."""
    layout = plan.family.rows
    if argument_tree.has_rows(path, leaf, plan.rows, layout):
        return argument_tree.row(leaf, at, path, layout, plan.rows)
    # Qwen-Image lists one shape for each prompt, not for each image.
    return leaf[0] if path[0] in layout.batches and isinstance(leaf, (list, tuple)) and leaf else argument_tree.ABSENT


def _is_masked(row: Row) -> bool:
    """Whether every sequence of a row has a mask beside it, which leaves padding out."""
    tensors = [leaf for leaf in row.values() if isinstance(leaf, torch.Tensor)]
    masks = {len(leaf) for leaf in tensors if leaf.ndim == 1 and not leaf.is_floating_point()}
    return all(len(leaf) in masks for leaf in tensors if leaf.ndim == 2)


def _is_far_padded(plan: PlanData, texts: Sequence[str], rows: Sequence[Row]) -> bool:
    lengths = [len(leaf) for row in rows for leaf in row.values() if isinstance(leaf, torch.Tensor) and leaf.ndim == 2]
    words = [text_tokens.length(plan.pipe, text) for text in texts]
    longest = max((count for count in words if count is not None), default=0)
    return bool(lengths) and None not in words and min(lengths) >= longest + _FAR


def _agree(together: Row, alone: Row) -> bool:
    """Whether a row of a batch says what the text says alone, but for rounding."""
    if together.keys() != alone.keys():
        return False
    return all(_close(leaf, alone[path]) for path, leaf in together.items())


def _close(first: object, second: object) -> bool:
    if not isinstance(first, torch.Tensor) or not isinstance(second, torch.Tensor):
        return argument_tree.same(first, second)
    return first.shape == second.shape and torch.allclose(first.float(), second.float(), rtol=0.05, atol=0.05)


def _gathered(plan: PlanData, rows: Sequence[Row | None]) -> dict[argument_tree.Path, object] | None:
    """The overlay made of single rows; None where they do not fit together."""
    layout = plan.family.rows
    own = plan.overlays.get(0, {})
    reference = plan.half(plan.reference.named, "uncond") if plan.mode == "batch" else plan.reference.named
    paths = dict.fromkeys(path for row in rows for path in (own if row is None else row))
    result = {}
    for path in paths:
        stood = argument_tree.at(reference, path)
        leaves = []
        for place, row in enumerate(rows):
            source = stood if row is not None or path not in own else own[path]
            if row is not None and path in row:
                leaves.append(row[path])
            elif argument_tree.has_rows(path, source, plan.rows, layout):
                leaves.append(argument_tree.row(source, place, path, layout, plan.rows))
            else:
                return None
        if not isinstance(leaves[0], torch.Tensor) or path[0] in layout.batches:
            value: object = type(stood)(leaves)
        elif all(leaf.shape == leaves[0].shape for leaf in leaves):
            axis = layout.axis(path)
            value = torch.stack([leaf.to(leaves[0]) for leaf in leaves], dim=axis)
            if path[0] in layout.per_frame:
                value = value.repeat_interleave(argument_tree.frames_of(stood, plan.rows, path, layout), dim=axis)
        else:
            return None
        if not argument_tree.same(stood, value):
            result[path] = value
    return plan.text_part(result)


def _copy(leaf: object) -> object:
    """A row of its own, which does not keep the rows beside it alive."""
    return leaf.clone() if isinstance(leaf, torch.Tensor) else leaf
