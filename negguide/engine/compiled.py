"""Compiled denoisers and listeners: which of them can be heard, and what to change where they cannot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

from negguide.pipeline.families import Unsupported

_REMEDY = (
    "Set torch._dynamo.config.skip_nnmodule_hook_guards = False, compile without fullgraph=True, and call "
    "torch._dynamo.reset() if the compiled denoiser has run before; or do not compile it for this method"
)


def is_compiled(denoiser: torch.nn.Module, modules: Iterable[torch.nn.Module]) -> bool:
    """Whether a denoiser, or some part of it among its `modules`, is compiled."""
    return hasattr(denoiser, "_orig_mod") or any(
        "_orig_mod" in module._modules or module.__dict__.get("_compiled_call_impl") is not None for module in modules
    )


def refuse_deaf(denoiser: torch.nn.Module, compiled: bool) -> None:
    """Refuse denoisers whose layers cannot be heard: compiled without hook guards, or sharded by context."""
    if compiled and torch._dynamo.config.skip_nnmodule_hook_guards:
        raise Unsupported(
            "the denoiser is compiled, and torch.compile ignores hooks that come after its first run: nothing would be "
            f"heard. {_REMEDY}"
        )
    parallel = getattr(denoiser, "_parallel_config", None)
    if getattr(parallel, "context_parallel_config", None) is not None:
        raise Unsupported("the denoiser is sharded by context (each device holds some tokens only); run without it")


@contextmanager
def whole_graphs_are_refused() -> Iterator[None]:
    """`Unsupported` in place of the compiler's error about the graph breaks that listening needs."""
    try:
        yield
    except Exception as error:
        # By its name: importing the compiler takes seconds.
        if type(error).__module__ != "torch._dynamo.exc":
            raise
        raise Unsupported(
            "the denoiser is compiled as a whole graph (fullgraph=True), and a method inside attention breaks the graph "
            f"after the layers it listens to. {_REMEDY}"
        ) from error
