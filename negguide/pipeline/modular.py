"""A modular pipeline of diffusers in the form of a pipeline class, so that all that is known of those holds for it."""

from __future__ import annotations

import copy
import functools
import inspect
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from negguide.pipeline.families import Unsupported, check_guider, guider_settings
from negguide.pipeline.intercept import base_class, enter

_SELF = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
_OWN = [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None) for n in ("state", "output")]
"""What every modular pipeline takes besides the inputs of its blocks."""
_MORE = inspect.Parameter("more", inspect.Parameter.VAR_KEYWORD)


def is_modular(pipe: object) -> bool:
    """Whether this is a modular pipeline with its blocks."""
    return any(ancestor.__name__ == "ModularPipeline" for ancestor in type(pipe).__mro__)


def in_one_piece(pipe: object) -> Any:
    """The pipeline itself, or for a modular one its stand-in: a `DiffusionPipeline` whose call runs the blocks.

    A stand-in has the components as attributes and takes the inputs of the blocks as arguments, whose names and
    defaults its signature shows. A copy with other components (a probe's) runs the blocks with those.
    """
    if not is_modular(pipe):
        return pipe
    if not hasattr(pipe, "_blocks"):
        raise Unsupported(
            f"{type(pipe).__name__}: modular pipelines of this diffusers have another form; take a newer one, or attach to "
            "the pipeline class of the same model"
        )
    inputs = tuple((given.name, _plain_default(given.default)) for given in pipe._blocks.inputs if given.name)
    kind, blocks = _stand_in(base_class(pipe), inputs), _known.get(pipe)
    if blocks is None or type(blocks) is not kind:
        blocks = _known[pipe] = kind(pipe)
    return blocks.follow()


_known: weakref.WeakKeyDictionary[object, StandIn] = weakref.WeakKeyDictionary()
"""One for each modular pipeline that is alive, so that what was learnt of its last calls is found at the next attach."""


class StandIn(DiffusionPipeline):
    """Base of what `in_one_piece` makes of modular pipelines."""

    def __init__(self, modular: object) -> None:
        self.__dict__.update(_modular=weakref.ref(modular), _names=(), _internal_dict={}, _progress_bar_config={})

    def follow(self) -> StandIn:
        """Take the components that the modular pipeline has now, and what its guider is set to; refuses other guiders."""
        modular = self.__dict__["_modular"]()
        components = {name: getattr(modular, name, None) for name in modular.component_names}
        guider = components.pop("guider", None)
        check_guider(base_class(modular).__name__, guider)
        self.__dict__.update(components, _names=tuple(components), guider_settings=guider_settings(guider))
        return self

    def let_go(self) -> None:
        """Keep no component alive that the modular pipeline may give up."""
        for name in self.__dict__["_names"]:
            self.__dict__.pop(name, None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "guider" or "_modular" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.__dict__["_modular"](), name)

    @property
    def config(self) -> dict[str, object]:
        return {}

    @property
    def _execution_device(self) -> object:
        return self.__dict__["_modular"]()._execution_device

    def run(self, given: dict[str, object]) -> Any:
        """Run the blocks with the components of this very stand-in."""
        modular = self.__dict__["_modular"]()
        if given.get("state") is not None:
            raise Unsupported(
                "an attached modular pipeline takes its inputs by name, not a state= of an earlier call; run the blocks "
                "up to the state detached, or give one call all inputs"
            )
        own = {name: self.__dict__.get(name) for name in self.__dict__["_names"]}
        if all(getattr(modular, name, None) is part for name, part in own.items()):
            return base_class(modular).__call__(modular, **given)
        twin = copy.copy(modular)
        twin.__dict__.update(own, guider=copy.copy(getattr(modular, "guider", None)))
        with _without_bars(twin._blocks):
            return base_class(modular).__call__(twin, **given)


@functools.cache
def _stand_in(modular: type, inputs: tuple[tuple[str, object], ...]) -> type[StandIn]:
    """The class of stand-ins of a class of modular pipelines whose blocks take these inputs."""
    named = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
        for name, default in inputs
        if name not in ("state", "output")
    ]

    def call(self: StandIn, **given: object) -> object:
        return self.run(given)

    call.__signature__ = inspect.Signature([_SELF, *_OWN, *named, _MORE])  # type: ignore[attr-defined]
    return type(modular.__name__, (StandIn,), {"__call__": call, "__module__": __name__})


def _plain_default(value: object) -> object:
    """A default that can stand in a signature which is remembered; what cannot is left to the blocks."""
    try:
        hash(value)
    except TypeError:
        return None
    return value


@contextmanager
def _without_bars(blocks: object) -> Iterator[None]:
    """Loops of the blocks show no progress meanwhile."""
    loops = [block for block in _all_blocks(blocks) if hasattr(block, "progress_bar")]
    before = [block.__dict__.get("_progress_bar_config") for block in loops]
    for block in loops:
        block._progress_bar_config = {**(block.__dict__.get("_progress_bar_config") or {}), "disable": True}
    try:
        yield
    finally:
        for block, config in zip(loops, before, strict=True):
            if config is None:
                block.__dict__.pop("_progress_bar_config", None)
            else:
                block._progress_bar_config = config


def _all_blocks(block: object) -> Iterator[Any]:
    yield block
    for part in (getattr(block, "sub_blocks", None) or {}).values():
        yield from _all_blocks(part)


def routed(handler: Callable[..., object], pipe: object, undo: Callable[[], None]) -> Callable[[], None]:
    """Calls of the modular pipeline behind a stand-in go to `handler`; `undo` with that undone, too. Else `undo` itself."""
    if not isinstance(pipe, StandIn):
        return undo
    leave = enter(pipe.__dict__["_modular"](), {"__call__": handler})

    def both() -> None:
        leave()
        undo()
        pipe.let_go()

    return both
