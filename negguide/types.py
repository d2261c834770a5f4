"""Types that many rooms share: a pipeline, what is only handed on to its call, and data in the form of JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, Union

if TYPE_CHECKING:
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline


class Pipeline(Protocol):
    """A pipeline that can be called. diffusers' base class has no call of its own, as each pipeline takes other arguments."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

    def __getattr__(self, name: str) -> Any: ...


PipelineLike = Union["DiffusionPipeline", Pipeline]
"""What `attach` takes: a pipeline as it is loaded, whose class is known only when it runs, or any with a call, modular ones too."""

Original = Callable[..., Any]
"""A method of a pipeline, its denoiser or scheduler, in whose place something of ours is called; it gives what it gives."""

Args = tuple[object, ...]
"""Arguments by position of such a method, as they were given."""

Named = dict[str, object]
"""Arguments by name of such a method; what each is, the pipeline decides."""

Json = dict[str, Any]
"""What a JSON object becomes in Python, or what one is made of: text, numbers, booleans, None, and lists and objects of them."""
