"""Modules that see image tokens alone compute the rows of a companion no second time.

A companion that keeps the prompt's image tokens (`Listen.same_image`) has the same rows as the prompt in every module that the
text does not reach: their norms, projections and feed-forward layers. Hooks hand such a module the rows that differ, and lay
what it gives under the companion too. In joint attention the image's tokens then attend to each other once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from negguide.engine.shared_attention import SharedAttention
from negguide.methods.tokens import Label
from negguide.pipeline.families.family import Side


class SharedRows:
    """The rows of one forward, and the hooks that let modules compute those of the prompt once."""

    def __init__(
        self, labels: Sequence[Label], count: int, cond: Label, rows: int, thread: int, compiled: bool
    ) -> None:
        """`labels`: of `count` rows each, companions behind the others; `cond`: the prompt's; `rows`: of the forward."""
        mains = sum(label[0] == "main" for label in labels)
        self._companions = len(labels) - mains
        self._rows = rows
        self._before = slice(0, mains * count)
        self._behind = slice(len(labels) * count, rows)
        start = labels.index(cond) * count
        self._cond = slice(start, start + count)
        self._thread = thread
        self._compiled = compiled
        self._kept_out: Any = torch.compiler.disable if compiled else lambda hook: hook
        self._handles: list[Any] = []

    def set(self, modules: Iterable[torch.nn.Module]) -> None:
        """Hook modules for the forward to come."""
        if not self._companions:
            return
        reduce, restore = self._kept_out(self._reduce), self._kept_out(self._restore)
        for module in modules:
            self._handles.append(module.register_forward_pre_hook(reduce, with_kwargs=True))
            self._handles.append(module.register_forward_hook(restore))

    def set_stream(self, modules: Iterable[torch.nn.Module], image: int, side: Side) -> None:
        """Hook modules that see text and image in one stream, `image` tokens of it at `side`, each token by itself."""
        if not self._companions or self._behind.start < self._rows:
            return
        tokens = 0
        """Of a row that comes to the module which is running; 0 where it does not get what is expected."""

        def reduce(module: torch.nn.Module, args: tuple[object, ...]) -> object:
            nonlocal tokens
            tokens = 0
            if self._other_thread or not args or not isinstance(args[0], Tensor):
                return None
            whole = args[0]
            if whole.ndim < 3 or whole.shape[0] != self._rows or whole.shape[1] <= image:
                return None
            tokens = whole.shape[1]
            text = _text(tokens, image, side)
            parts = whole[self._before], whole[self._before.stop :, text]
            return (torch.cat([part.flatten(0, 1) for part in parts]).unsqueeze(0), *args[1:])

        def restore(module: torch.nn.Module, args: tuple[Any, ...], output: Any) -> object:
            if self._other_thread or not tokens:
                return None
            text, mains = _text(tokens, image, side), self._before.stop
            before, behind = output[0].split([mains * tokens, (self._rows - mains) * (tokens - image)])
            before = before.unflatten(0, (mains, tokens))
            whole = output.new_empty(self._rows, tokens, *output.shape[2:])
            whole[:mains] = before
            whole[mains:] = before[self._cond].repeat(self._companions, *[1] * (before.ndim - 1))
            whole[mains:, text] = behind.unflatten(0, ((self._rows - mains), tokens - image))
            return whole

        reduce, restore = self._kept_out(reduce), self._kept_out(restore)
        for module in modules:
            self._handles.append(module.register_forward_pre_hook(reduce))
            self._handles.append(module.register_forward_hook(restore))

    def set_attention(self, layers: Iterable[torch.nn.Module], image: int, side: Side) -> None:
        """Hook joint layers whose image tokens, `image` of them at `side`, come from modules that are hooked."""
        if not self._companions or self._compiled or self._behind.start < self._rows:
            return
        attention = SharedAttention(self._rows, self._cond, slice(self._before.stop, self._rows), image, side)
        entered = False

        def enter(module: torch.nn.Module, args: tuple[object, ...]) -> None:
            nonlocal entered
            if not self._other_thread and not entered:
                attention.__enter__()
                entered = True

        def leave(module: torch.nn.Module, args: tuple[object, ...], output: object) -> None:
            nonlocal entered
            if not self._other_thread and entered:
                attention.__exit__(None, None, None)
                entered = False

        for layer in layers:
            self._handles.append(layer.register_forward_pre_hook(enter))
            self._handles.append(layer.register_forward_hook(leave, always_call=True))

    def remove(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @property
    def _other_thread(self) -> bool:
        return threading.get_ident() != self._thread

    def _reduce(self, module: torch.nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        if self._other_thread:
            return None
        return tuple(map(self._different, args)), {name: self._different(value) for name, value in kwargs.items()}

    def _restore(self, module: torch.nn.Module, args: tuple[object, ...], output: object) -> object:
        if self._other_thread:
            return None
        return tuple(map(self._all, output)) if isinstance(output, tuple) else self._all(output)

    def _different(self, value: object) -> object:
        """The rows that are no companion's, of tensors in tuples too."""
        if type(value) is tuple:
            return tuple(map(self._different, value))
        if not isinstance(value, Tensor) or not value.ndim or value.shape[0] != self._rows:
            return value
        behind = value[self._behind]
        return torch.cat([value[self._before], behind]) if len(behind) else value[self._before]

    def _all(self, value: object) -> object:
        """All rows, the companions' being the prompt's."""
        if not isinstance(value, Tensor):
            return value
        before = self._before.stop
        if before == 1 and len(value) == 1:
            # One image without guidance: its row stands for all others without a copy.
            return value.expand(1 + self._companions, *value.shape[1:])
        return torch.cat([value[:before], *[value[self._cond]] * self._companions, value[before:]])


def _text(tokens: int, image: int, side: Side) -> slice:
    """The tokens of a row that are not the image's."""
    return slice(image, tokens) if side == "first" else slice(0, tokens - image)
