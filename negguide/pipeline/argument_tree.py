"""Arguments of a denoiser call as trees of dicts, lists and leaves: compare, overlay, take rows, join rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

Path = tuple[Any, ...]
Overlay = Mapping[Path, object]


_WITHOUT_ROWS = ("image_rotary_emb",)
"""Arguments that hold positions of the tokens of one picture in every denoiser of diffusers."""


class _Absent:
    """What an overlay lays over an argument that the other call does not have."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = _Absent()


@dataclass(frozen=True)
class RowLayout:
    """Where the arguments of a denoiser call hold a row per image: along their first dimension, unless it says otherwise."""

    batches: tuple[str, ...] = ()
    """Arguments whose python list is the batch (Z-Image); such a list is one leaf."""
    shared: tuple[str, ...] = ("image_rotary_emb",)
    """Arguments without rows, whatever their first dimension happens to be (frames, tokens, as many as rows by chance)."""
    axes: Mapping[str, int] = field(default_factory=dict)
    """Dimension of the rows of those arguments in which it is another one."""
    per_frame: tuple[str, ...] = ()
    """Arguments with as many rows for each image, one after the other, as it has frames, or with one."""

    def axis(self, path: Path) -> int:
        """Dimension of the rows of a leaf."""
        return self.axes.get(path[0], 0) if path else 0


class Unjoinable(Exception):
    """The rows of two calls do not fit into one call (text lengths differ, or an argument without rows does)."""


def rebuild(tree: Any, leaf: Callable[[Path, Any], Any], batches: Collection[str] = (), path: Path = ()) -> Any:
    """A copy of the containers of `tree`, every leaf replaced by `leaf(path, value)`."""
    if path and path[0] in batches:
        return leaf(path, tree)
    if isinstance(tree, dict):
        return {key: rebuild(value, leaf, batches, (*path, key)) for key, value in tree.items()}
    if type(tree) in (list, tuple):
        return type(tree)(rebuild(value, leaf, batches, (*path, index)) for index, value in enumerate(tree))
    return leaf(path, tree)


def copied(tree: object) -> Any:
    """New containers, same leaves: what a pipeline later does to its dicts and lists does not show."""
    return rebuild(tree, lambda _, value: value)


def same(first: object, second: object) -> bool:
    """Whether two leaves say the same; tensors by storage first, then by value."""
    if first is second:
        return True
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        if first.shape != second.shape or first.dtype != second.dtype:
            return False
        if first.data_ptr() == second.data_ptr() and first.stride() == second.stride() and first.numel():
            return True
        return torch.equal(first, second.to(first.device))
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))
    if isinstance(first, torch.Tensor) or isinstance(second, torch.Tensor):
        return False
    return bool(first == second)


def diff(before: Any, after: Any, batches: Collection[str] = (), path: Path = ()) -> dict[Path, object]:
    """What must be laid over `before` to get `after`: {path: leaf or container of `after`, or ABSENT}."""
    atomic = bool(path) and path[0] in batches
    if not atomic and isinstance(before, dict) and isinstance(after, dict):
        keys = dict.fromkeys([*before, *after])
        pairs = [(key, before.get(key, ABSENT), after.get(key, ABSENT)) for key in keys]
    elif not atomic and type(before) in (list, tuple) and type(before) is type(after) and len(before) == len(after):
        pairs = [(index, a, b) for index, (a, b) in enumerate(zip(before, after, strict=True))]
    else:
        return {} if same(before, after) else {path: after}
    return {key: value for name, a, b in pairs for key, value in diff(a, b, batches, (*path, name)).items()}


def overlaid(tree: Any, overlay: Overlay, path: Path = ()) -> Any:
    """A copy of `tree` with the overlay's values at their paths."""
    if path in overlay:
        return spread(overlay[path])
    if isinstance(tree, dict):
        new = [key[-1] for key in overlay if len(key) == len(path) + 1 and key[:-1] == path and key[-1] not in tree]
        values = {key: overlaid(tree.get(key), overlay, (*path, key)) for key in [*tree, *new]}
        return {key: value for key, value in values.items() if value is not ABSENT}
    if type(tree) in (list, tuple) and any(key[: len(path)] == path for key in overlay):
        return type(tree)(overlaid(value, overlay, (*path, index)) for index, value in enumerate(tree))
    return tree


def folded(leaf: object) -> Any:
    """A tensor whose rows (B, ...) are all the same as one of them that stands for all; others as they are."""
    if not isinstance(leaf, torch.Tensor) or leaf.ndim < 2 or leaf.shape[0] < 2:
        return leaf
    alike = leaf[:1].expand_as(leaf)
    return leaf[:1].clone().expand_as(leaf) if torch.equal(leaf, alike) else leaf


def spread(leaf: Any) -> Any:
    """What `folded` made as a tensor that any module takes."""
    return leaf.contiguous() if is_folded(leaf) else leaf


def is_folded(leaf: object) -> bool:
    """Whether one row of a tensor stands for all."""
    return isinstance(leaf, torch.Tensor) and leaf.ndim > 1 and leaf.shape[0] > 1 and not leaf.stride(0)


def at(tree: Any, path: Path) -> Any:
    """The leaf or container at a path; ABSENT where there is none."""
    for step in path:
        if isinstance(tree, dict) and step not in tree:
            return ABSENT
        tree = tree[step]
    return tree


def has_rows(path: Path, leaf: object, rows: int, layout: RowLayout) -> bool:
    """Whether a leaf holds one entry per row of the batch."""
    if path and (path[0] in layout.shared or path[0] in _WITHOUT_ROWS):
        return False
    if isinstance(leaf, torch.Tensor):
        axis = layout.axis(path)
        if not (leaf.ndim > axis and leaf.shape[axis]):
            return False
        return leaf.shape[axis] == rows or (bool(path) and path[0] in layout.per_frame and leaf.shape[axis] % rows == 0)
    return bool(path) and path[0] in layout.batches and isinstance(leaf, (list, tuple)) and len(leaf) == rows


def frames_of(leaf: object, rows: int, path: Path, layout: RowLayout) -> int:
    """How many rows a leaf that has rows holds for each of `rows` images."""
    return leaf.shape[layout.axis(path)] // rows if isinstance(leaf, torch.Tensor) else 1


def row(leaf: Any, at: int, path: Path, layout: RowLayout, rows: int) -> Any:
    """One row of a leaf that has `rows` rows; of several for an image the first, which are the same of a text."""
    if not isinstance(leaf, torch.Tensor):
        return leaf[at]
    return leaf.select(layout.axis(path), at * frames_of(leaf, rows, path, layout))


def take(tree: object, part: slice, rows: int, layout: RowLayout) -> Any:
    """The call that evaluates only some rows of a call of `rows` rows."""

    def some(path: Path, leaf: Any) -> object:
        if not has_rows(path, leaf, rows, layout):
            return leaf
        if not isinstance(leaf, torch.Tensor):
            return leaf[part]
        frames = frames_of(leaf, rows, path, layout)
        start, stop, _ = part.indices(rows)
        return leaf[(slice(None),) * layout.axis(path) + (slice(start * frames, stop * frames),)]

    return rebuild(tree, some, layout.batches)


def extended(tree: object, extra: Sequence[int], rows: int, layout: RowLayout) -> Any:
    """The call with more rows at its end, copies of its rows `extra`."""

    def more(path: Path, leaf: Any) -> object:
        if not has_rows(path, leaf, rows, layout):
            return leaf
        if isinstance(leaf, torch.Tensor):
            axis, frames = layout.axis(path), frames_of(leaf, rows, path, layout)
            places = [at * frames + frame for at in extra for frame in range(frames)]
            return torch.cat([leaf, leaf.index_select(axis, torch.tensor(places, device=leaf.device))], dim=axis)
        return type(leaf)([*leaf, *(leaf[at] for at in extra)])

    return rebuild(tree, more, layout.batches)


def join(trees: Sequence[Any], rows: int, layout: RowLayout, path: Path = ()) -> Any:
    """One call made of several calls of `rows` rows each. Raises `Unjoinable` where they do not fit together."""
    first = trees[0]
    atomic = bool(path) and path[0] in layout.batches
    if not atomic and isinstance(first, dict):
        if any(not isinstance(tree, dict) or tree.keys() != first.keys() for tree in trees):
            raise Unjoinable(path)
        return {key: join([tree[key] for tree in trees], rows, layout, (*path, key)) for key in first}
    if not atomic and type(first) in (list, tuple):
        if any(type(tree) is not type(first) or len(tree) != len(first) for tree in trees):
            raise Unjoinable(path)
        columns = zip(*trees, strict=True)
        return type(first)(join(list(c), rows, layout, (*path, i)) for i, c in enumerate(columns))
    if all(has_rows(path, tree, rows, layout) for tree in trees):
        if atomic and not isinstance(first, torch.Tensor):
            return type(first)(item for tree in trees for item in tree)
        axis = layout.axis(path)
        if any(_beside(tree, axis) != _beside(first, axis) or tree.dtype != first.dtype for tree in trees):
            raise Unjoinable(path)
        return torch.cat([tree.to(first.device) for tree in trees], dim=axis)
    if not all(same(first, tree) for tree in trees[1:]):
        raise Unjoinable(path)
    return first


def _beside(leaf: torch.Tensor, axis: int) -> tuple[int, ...]:
    """The shape without the rows."""
    return (*leaf.shape[:axis], *leaf.shape[axis + 1 :])
