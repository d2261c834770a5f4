"""The modules of a denoiser, walked fast: a call of a pipeline asks several things of all of them before its first step."""

from __future__ import annotations

from collections.abc import Iterator

import torch


def named_parts(module: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """The module ("") and all inside it with their paths, each once, in the order of `named_modules`.

    A stack in place of a generator inside a generator for each level, which is where `named_modules` spends its time.
    """
    seen: set[torch.nn.Module] = set()
    stack = [("", module)]
    while stack:
        path, part = stack.pop()
        if part in seen:
            continue
        seen.add(part)
        yield path, part
        if part._modules:
            prefix = f"{path}." if path else ""
            stack += [(prefix + name, child) for name, child in reversed(part._modules.items()) if child is not None]


def parts(module: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """The module and all inside it, each once."""
    seen: set[torch.nn.Module] = set()
    stack = [module]
    while stack:
        part = stack.pop()
        if part in seen:
            continue
        seen.add(part)
        yield part
        if part._modules:
            stack += [child for child in reversed(part._modules.values()) if child is not None]
