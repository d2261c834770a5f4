"""Stable Diffusion whose call takes negatives: a custom pipeline, thin over `negguide.attach`.

pipe = DiffusionPipeline.from_pretrained(model, custom_pipeline="pipelines/negguide_sd", trust_remote_code=True)
pipe("a portrait of a person", negatives=["glasses", ("hat", 1.5)], method="perp_neg").images
"""

import inspect
from collections.abc import Sequence
from typing import Any

from diffusers import StableDiffusionPipeline

from negguide import Method, attach, get_method


class NegguideStableDiffusionPipeline(StableDiffusionPipeline):
    """`StableDiffusionPipeline` with two more arguments of the call; without them it is the stock pipeline.

    `negatives`: what is not wanted: texts, `(text, weight)` pairs or `negguide.Negative`. `method`: a name from
    `negguide methods` that is built with these negatives; or a `negguide` method, or several, which bring their own.
    """

    def __call__(self, *args: Any, negatives: Any = None, method: Any = None, **kwargs: Any) -> Any:
        methods = _methods(negatives, method)
        if not methods:
            return super().__call__(*args, **kwargs)
        with attach(self, *methods):
            return self(*args, **kwargs)


def _methods(negatives: Any, method: Any) -> tuple[Method, ...]:
    """The methods that a call asks for; `ValueError` or `TypeError` for what does not go together."""
    if method is None or isinstance(method, str):
        if not negatives:
            if method is not None:
                raise ValueError(f"method={method!r} needs negatives, e.g. negatives=['hat']")
            return ()
        return (get_method(method or "perp_neg")(negatives),)
    methods = tuple(method) if isinstance(method, Sequence) else (method,)
    if not all(isinstance(one, Method) for one in methods):
        raise TypeError(f"method is {method!r}; possible: a name such as 'perp_neg', or negguide methods")
    if negatives:
        raise ValueError("negatives go with the name of a method; the given methods bring their own")
    return methods


def _signature() -> inspect.Signature:
    """The arguments of the stock call and the two more."""
    stock = inspect.signature(StableDiffusionPipeline.__call__)
    parameters = list(stock.parameters.values())
    keyword = inspect.Parameter.KEYWORD_ONLY
    more = [inspect.Parameter(name, keyword, default=None) for name in ("negatives", "method")]
    place = len(parameters) - (parameters[-1].kind is inspect.Parameter.VAR_KEYWORD)
    return stock.replace(parameters=[*parameters[:place], *more, *parameters[place:]])


# Told to everything that asks: negguide, diffusers, help().
NegguideStableDiffusionPipeline.__call__.__signature__ = _signature()  # type: ignore[attr-defined]
