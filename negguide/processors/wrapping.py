"""An attention processor around another one, and how they are set on a denoiser and taken away."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

from negguide.engine.attention_layers import attention_layers
from negguide.methods.tokens import Layer
from negguide.pipeline.families import Unsupported


class WrappingProcessor(torch.nn.Module):
    """Base of attention processors that let another one do the attention; what they do not know, they ask of it.

    Its call has the signature of the wrapped processor, by which diffusers chooses what it hands on (masks of IP-Adapters,
    rotary embeddings), and attributes that only the wrapped one has (a back end, an adapter's scale) are read and set there.

    Args:
        wrapped: the processor that stands there: diffusers' own, an IP-Adapter's, xformers', yours.
    """

    enabled: bool = True
    """Whether it acts; else the wrapped processor is called as it is. See `paused`."""

    def __new__(cls, wrapped: object = None, *args: object, **kwargs: object) -> WrappingProcessor:
        base: Any = cls
        kind: object = type(wrapped)
        instance: WrappingProcessor = object.__new__(base if wrapped is None else _like(base, kind))
        return instance

    def __init__(self, wrapped: object) -> None:
        if not callable(wrapped):
            raise TypeError(
                f"wrapped is {wrapped!r}; an attention processor is needed, e.g. unet.attn_processors[name] "
                "(where that dict is to be wrapped as a whole, see negguide.processors.wrap)"
            )
        super().__init__()
        self.wrapped = wrapped

    def act(self, attn: object, named: dict[str, object]) -> Any:
        """What the layer gives; `named`: arguments of the call to the wrapped processor, without `attn`."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            wrapped = self.__dict__.get("wrapped") or self.__dict__.get("_modules", {}).get("wrapped")
            if wrapped is None or name == "wrapped":
                raise
            return getattr(wrapped, name)

    def __setattr__(self, name: str, value: Any) -> None:
        # Its own settings are the arguments it is made of, even where the wrapped one has such a name too (`scale`).
        cls: object = type(self)
        own = name in self.__dict__ or hasattr(cls, name) or name in _arguments(cls)
        if not own and "_modules" in self.__dict__ and hasattr(getattr(self, "wrapped", None), name):
            setattr(self.wrapped, name, value)
        else:
            super().__setattr__(name, value)

    def __reduce__(self) -> Any:
        return _empty, (type(self).__mro__[1], type(self.wrapped)), self.__dict__


@cache
def _like(cls: Any, kind: Any) -> Any:
    """`cls` with the call signature of processors of class `kind`."""
    signature = inspect.signature(kind.__call__)

    def call(self: WrappingProcessor, attn: object, *args: object, **kwargs: object) -> object:
        if not self.enabled:
            return self.wrapped(attn, *args, **kwargs)
        named = dict(signature.bind(self.wrapped, attn, *args, **kwargs).arguments)
        for key in list(named)[:2]:  # the processor itself and the module
            named.pop(key)
        for name, parameter in signature.parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                named |= named.pop(name, {})
        return self.act(attn, named)

    call.__signature__ = signature  # type: ignore[attr-defined]
    return type(cls.__name__, (cls,), {"__call__": call, "__module__": cls.__module__, "__doc__": cls.__doc__})


@cache
def _arguments(cls: Any) -> frozenset[str]:
    return frozenset(inspect.signature(cls.__init__).parameters)


def _empty(cls: object, kind: object) -> object:
    return object.__new__(_like(cls, kind))


def wrap(denoiser: torch.nn.Module, make: Callable[[Layer, Any], WrappingProcessor | None]) -> list[str]:
    """Put a processor around that of each attention layer over image tokens for which `make` gives one.

    Args:
        denoiser: a UNet or a transformer of diffusers, of a family that negguide knows.
        make: takes the layer (name, kind "self", "cross" or "joint") and its present processor; None leaves it.

    Returns:
        The names of the wrapped layers.

    Raises:
        Unsupported: if the model or its attention is not known, or no layer was wrapped.
    """
    chosen = []
    for attention_layer in attention_layers(denoiser):
        module: Any = getattr(attention_layer.module, "_orig_mod", attention_layer.module)
        present = getattr(module, "processor", None)
        if present is not None and (processor := make(attention_layer.layer, present)) is not None:
            chosen.append((attention_layer.layer.name, module, processor))
    if not chosen:
        raise Unsupported(
            f"no attention layer of {type(denoiser).__name__} has a processor that this could wrap (text and image share "
            "their layers, or the layers have no processors); use negguide.attach with the pipeline"
        )
    for _, module, processor in chosen:
        module.set_processor(processor)
    return [name for name, _, _ in chosen]


def unwrap(denoiser: torch.nn.Module) -> list[str]:
    """Give every layer the processor back that stood there before any of negguide's; the names of those layers.

    Raises `ValueError` if a processor set later holds one of ours inside, where it cannot be reached: take that one away first.
    """
    names = []
    for name, module in denoiser.named_modules():
        processor = getattr(module, "processor", None)
        if not isinstance(processor, WrappingProcessor) or not hasattr(module, "set_processor"):
            continue
        while isinstance(processor, WrappingProcessor):
            processor = processor.wrapped
        module.set_processor(processor)
        names.append(name.replace("_orig_mod.", ""))
    left = [name for name, module in denoiser.named_modules() if isinstance(module, WrappingProcessor)]
    if left:
        raise ValueError(f"{left[0]} stands inside another processor; take that one away, then unwrap again")
    return names


@contextmanager
def paused(denoiser: torch.nn.Module) -> Iterator[None]:
    """Let the wrapped processors work alone, for forwards that are not to be changed (the unconditional one, late steps)."""
    processors = [module for module in denoiser.modules() if isinstance(module, WrappingProcessor)]
    before = [processor.enabled for processor in processors]
    for processor in processors:
        processor.enabled = False
    try:
        yield
    finally:
        for processor, enabled in zip(processors, before, strict=True):
            processor.enabled = enabled
