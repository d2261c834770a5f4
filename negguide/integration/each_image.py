"""Conditions with one text per image: each text is encoded once, and their rows are gathered anew for every list of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from negguide.integration import tree

if TYPE_CHECKING:
    from negguide.integration.plan import Plan

Row = Mapping[tree.Path, Any]
Texts = dict[str, Row | None]
"""Text -> its row of each argument that it changes; None where the arguments cannot be taken apart into rows."""

_MOST_TEXTS = 512


def overlay(plan: Plan, texts: Sequence[str | None]) -> dict[tree.Path, Any]:
    """What to lay over the reference call of a plan to ask for `texts`, one per image; None: the pipeline's own there.

    New texts are encoded by one probe, all at once. Where the rows of a family depend on each other (padding to the longest),
    the very list of texts is probed, with the call's own negative text for None. Raises `ValueError` for a wrong number.
    """
    if len(texts) != plan.rows:
        raise ValueError(f"EachImage has {len(texts)} texts {tuple(texts)!r}, the call makes {plan.rows} image(s)")
    new = [text for text in dict.fromkeys(texts) if text is not None and text not in plan.texts]
    if new:
        _learn(plan, new)
    rows = [None if text is None else plan.texts[text] for text in texts]
    found = None
    if all(row is not None for row, text in zip(rows, texts, strict=True) if text is not None):
        found = _gathered(plan, rows)
    if found is None:
        filled = zip(texts, plan.call.own_negatives(plan.rows), strict=True)
        found = plan.overlay_of_texts([own if text is None else text for text, own in filled])
    while len(plan.texts) > _MOST_TEXTS:
        plan.texts.pop(next(iter(plan.texts)))
    return found


def _learn(plan: Plan, new: Sequence[str]) -> None:
    """Encode at most one new text per image, and keep the rows."""
    found = plan.overlay_of_texts([*new, *[new[0]] * (plan.rows - len(new))])
    alike = all(_has_rows(plan, path, leaf) for path, leaf in found.items())
    for at, text in enumerate(new):
        plan.texts[text] = (
            {path: _copy(tree.row(leaf, at, path, plan.family.rows)) for path, leaf in found.items()} if alike else None
        )


def _gathered(plan: Plan, rows: Sequence[Row | None]) -> dict[tree.Path, Any] | None:
    """The overlay made of single rows; None where they do not fit together."""
    own = plan.overlays.get(0, {})
    reference = plan.half(plan.reference.named, "uncond") if plan.mode == "batch" else plan.reference.named
    paths = dict.fromkeys(path for row in rows for path in (own if row is None else row))
    result = {}
    for path in paths:
        stood = tree.at(reference, path)
        leaves = []
        for place, row in enumerate(rows):
            source = stood if row is not None or path not in own else own[path]
            if row is not None and path in row:
                leaves.append(row[path])
            elif _has_rows(plan, path, source):
                leaves.append(tree.row(source, place, path, plan.family.rows))
            else:
                return None
        if not isinstance(leaves[0], torch.Tensor) or path[0] in plan.family.rows.batches:
            result[path] = type(stood)(leaves)
        elif all(leaf.shape == leaves[0].shape for leaf in leaves):
            result[path] = torch.stack([leaf.to(leaves[0]) for leaf in leaves], dim=plan.family.rows.axis(path))
        else:
            return None
    return result


def _has_rows(plan: Plan, path: tree.Path, leaf: Any) -> bool:
    return tree.has_rows(path, leaf, plan.rows, plan.family.rows)


def _copy(leaf: Any) -> Any:
    """A row of its own, which does not keep the rows beside it alive."""
    return leaf.clone() if isinstance(leaf, torch.Tensor) else leaf
