"""Arguments of a denoiser call as trees of dicts, lists and leaves: compare, overlay, take rows, join rows.

`batches` names arguments whose value is a python list that serves as a batch (Z-Image); such a list is one leaf.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch

Path = tuple[Any, ...]
Overlay = Mapping[Path, Any]


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


def copied(tree: Any) -> Any:
    """New containers, same leaves: what a pipeline later does to its dicts and lists does not show."""
    return rebuild(tree, lambda _, value: value)


def same(first: Any, second: Any) -> bool:
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


def diff(before: Any, after: Any, batches: Collection[str] = (), path: Path = ()) -> dict[Path, Any]:
    """What must be laid over `before` to get `after`: {path: leaf or container of `after`}."""
    atomic = bool(path) and path[0] in batches
    if not atomic and isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys():
        pairs = [(key, before[key], after[key]) for key in before]
    elif not atomic and type(before) in (list, tuple) and type(before) is type(after) and len(before) == len(after):
        pairs = [(index, a, b) for index, (a, b) in enumerate(zip(before, after, strict=True))]
    else:
        return {} if same(before, after) else {path: after}
    return {key: value for name, a, b in pairs for key, value in diff(a, b, batches, (*path, name)).items()}


def overlaid(tree: Any, overlay: Overlay, path: Path = ()) -> Any:
    """A copy of `tree` with the overlay's values at their paths."""
    if path in overlay:
        return overlay[path]
    if isinstance(tree, dict):
        return {key: overlaid(value, overlay, (*path, key)) for key, value in tree.items()}
    if type(tree) in (list, tuple) and any(key[: len(path)] == path for key in overlay):
        return type(tree)(overlaid(value, overlay, (*path, index)) for index, value in enumerate(tree))
    return tree


def has_rows(path: Path, leaf: Any, rows: int, batches: Collection[str], shared: Collection[str]) -> bool:
    """Whether a leaf holds one entry per row of the batch."""
    if path and path[0] in shared:
        return False
    if isinstance(leaf, torch.Tensor):
        return leaf.ndim > 0 and leaf.shape[0] == rows
    return bool(path) and path[0] in batches and isinstance(leaf, (list, tuple)) and len(leaf) == rows


def take(tree: Any, part: slice, rows: int, batches: Collection[str], shared: Collection[str]) -> Any:
    """The call that evaluates only some rows of a call of `rows` rows."""
    return rebuild(
        tree,
        lambda path, leaf: leaf[part] if has_rows(path, leaf, rows, batches, shared) else leaf,
        batches,
    )


def extended(
    tree: Any, extra: Sequence[int], rows: int, batches: Collection[str] = (), shared: Collection[str] = ()
) -> Any:
    """The call with more rows at its end, copies of its rows `extra`."""

    def more(path: Path, leaf: Any) -> Any:
        if not has_rows(path, leaf, rows, batches, shared):
            return leaf
        if isinstance(leaf, torch.Tensor):
            return torch.cat([leaf, leaf[list(extra)]])
        return type(leaf)([*leaf, *(leaf[at] for at in extra)])

    return rebuild(tree, more, batches)


def join(trees: Sequence[Any], rows: int, batches: Collection[str], shared: Collection[str], path: Path = ()) -> Any:
    """One call made of several calls of `rows` rows each. Raises `Unjoinable` where they do not fit together."""
    first = trees[0]
    atomic = bool(path) and path[0] in batches
    if not atomic and isinstance(first, dict):
        if any(not isinstance(tree, dict) or tree.keys() != first.keys() for tree in trees):
            raise Unjoinable(path)
        return {key: join([tree[key] for tree in trees], rows, batches, shared, (*path, key)) for key in first}
    if not atomic and type(first) in (list, tuple):
        if any(type(tree) is not type(first) or len(tree) != len(first) for tree in trees):
            raise Unjoinable(path)
        columns = zip(*trees, strict=True)
        return type(first)(join(list(c), rows, batches, shared, (*path, i)) for i, c in enumerate(columns))
    if all(has_rows(path, tree, rows, batches, shared) for tree in trees):
        if atomic and not isinstance(first, torch.Tensor):
            return type(first)(item for tree in trees for item in tree)
        if any(tree.shape[1:] != first.shape[1:] or tree.dtype != first.dtype for tree in trees):
            raise Unjoinable(path)
        return torch.cat([tree.to(first.device) for tree in trees])
    if not all(same(first, tree) for tree in trees[1:]):
        raise Unjoinable(path)
    return first
