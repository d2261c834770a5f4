"""Pipelines whose call takes negatives: what the folders in `pipelines/` are made of, and how any pipeline becomes one.

>>> from negguide.custom import takes_negatives
>>> @takes_negatives  # doctest: +SKIP
... class MyPipeline(StableDiffusionXLPipeline): ...
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from negguide.engine import attach
from negguide.methods import METHODS, Method, get_method
from negguide.types import Pipeline, PipelineLike

USUAL = "perp_neg"
"""The method of a call that names none."""

P = TypeVar("P", bound=type)


def takes_negatives(pipeline: P) -> P:
    """Class decorator: the call of a diffusers pipeline class takes `negatives`, `method` and options of methods besides its own.

    Args:
        pipeline: a class derived from a pipeline class of diffusers; it gets a `__call__`.

    Returns:
        The same class. Without `negatives` and `method`, its call is that of its parent.

    In the call:
        negatives: what is not wanted: texts, `(text, weight)` pairs or `negguide.Negative`.
        method: a name from `negguide methods` that is built with these negatives ("perp_neg" where none is named), or a method
            of negguide, or several, which bring their own.
        further: options of the named method, such as `scale=4` of "nag", where the pipeline has no argument of that name.
    """
    stock = pipeline.__mro__[1].__call__
    signature = _signature(stock)

    @functools.wraps(stock)
    def call(
        self: Pipeline, *args: object, negatives: object = None, method: object = None, **kwargs: object
    ) -> object:
        own = inspect.signature(stock).parameters
        options = {key: kwargs.pop(key) for key in list(kwargs) if key in signature.parameters and key not in own}
        methods = methods_of_call(
            negatives, method, {key: value for key, value in options.items() if value is not None}
        )
        if not methods:
            return stock(self, *args, **kwargs)
        with attach(self, *methods):
            return type(self).__call__(self, *args, **kwargs)

    call.__signature__ = signature  # type: ignore[attr-defined]  # told to everything that asks: negguide, diffusers, help()
    call.__doc__ = f"{inspect.getdoc(stock) or ''}\n\n{_HELP}"
    pipeline.__call__ = call  # type: ignore[method-assign]
    return pipeline


_HELP = """negguide:
    negatives: what is not wanted: texts, (text, weight) pairs or negguide.Negative.
    method: a name from `negguide methods` ("perp_neg" where none is named), or methods of negguide with negatives of their own.
    scale, tau, alpha, ...: options of the named method, see `negguide methods NAME`.
"""


def with_negatives(pipe: PipelineLike) -> Any:
    """A pipeline of any class, with the same parts, whose call takes negatives; see `takes_negatives`.

    Args:
        pipe: a diffusers pipeline; it stays as it is, and shares its parts with the new one.
    """
    base = type(pipe)
    kind = type(base.__name__, (base,), {"__module__": base.__module__, "__doc__": base.__doc__})
    return takes_negatives(kind)(**pipe.components, **_settings(pipe))


def _settings(pipe: PipelineLike) -> dict[str, object]:
    """Arguments of a pipeline's class that are no parts of it, such as `is_distilled`."""
    wanted = inspect.signature(type(pipe).__init__).parameters
    return {name: value for name, value in pipe.config.items() if name in wanted and name not in pipe.components}


def methods_of_call(negatives: object, method: object, options: Mapping[str, object]) -> tuple[Method, ...]:
    """The methods that a call asks for; `ValueError` or `TypeError` for what does not go together."""
    if method is None or isinstance(method, str):
        if negatives is None or (isinstance(negatives, Sequence) and not negatives):
            if method is not None or options:
                asked = f"method={method!r}" if method is not None else f"{next(iter(options))}="
                raise ValueError(f"{asked} needs negatives, e.g. negatives=['hat']")
            return ()
        entry = get_method(method or USUAL)
        fields = {field.name for field in dataclasses.fields(entry.method)}
        if unknown := [name for name in options if name not in fields]:
            raise TypeError(
                f"{entry.name} has no option {unknown[0]!r}; it has {', '.join(sorted(fields - {'negatives'}))}"
            )
        return (entry(negatives, **options),)
    methods = tuple(method) if isinstance(method, Sequence) else (method,)
    if not all(isinstance(given, Method) for given in methods):
        raise TypeError(f"method is {method!r}; possible: a name such as 'perp_neg', or negguide methods")
    if negatives or options:
        raise ValueError("negatives go with the name of a method; the given methods bring their own")
    return methods


def _signature(stock: Any) -> inspect.Signature:
    """The arguments of the stock call, and ours."""
    stock_signature = inspect.signature(stock)
    parameters = list(stock_signature.parameters.values())
    names = ["negatives", "method"]
    for entry in METHODS.values():
        if entry.takes_negatives:
            names += [field.name for field in dataclasses.fields(entry.method)]
    new = [name for name in dict.fromkeys(names) if name not in stock_signature.parameters]
    more = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in new]
    place = len(parameters) - (parameters[-1].kind is inspect.Parameter.VAR_KEYWORD)
    return stock_signature.replace(parameters=[*parameters[:place], *more, *parameters[place:]])
