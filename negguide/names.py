"""Names of models that a package brings along ("toybox", "toybox/sd3"): the one door between the library and such bundles.

The Toybox registers here as any other package would (see `negguide.plugins`); nothing else in the library knows it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negguide import plugins

if TYPE_CHECKING:
    from negguide.metrics.clip import Clip

DEFAULT = "toybox"
"""The model that is meant where none is named."""


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How a pipeline is meant to be called: `num_inference_steps`, `guidance_scale` (1: without guidance), and the rest."""

    steps: int
    guidance_scale: float
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Bundle:
    """Models that a package brings along under one name.

    Args:
        name: a word without "/" and ":"; it means the first pipeline, `name/other` another one.
        pipelines: how each pipeline is meant to be called, the first one first.
        folder: pipeline -> its folder in the diffusers format (it may be absent).
        load: (pipeline, torch dtype) -> a fresh copy on the CPU. Raises `OSError` where files are missing.
        python: pipeline -> Python lines that load it as `pipe`.
        clip: the CLIP that knows its pictures, if it has one.
        watcher: the folder of its model for questions about pictures (transformers, VQA), if it has one.
        vocabulary: lists of words, `(name, words)`, that a zero-shot watcher chooses from.
        about: one line on what its pictures are, for people who have never seen them.
        words: name of a group -> words its models know, for people to choose from; None where they may know any.
        strange: text -> those of its words that the models have never seen; None where they may know any.
        judges: who judges its pictures beside the CLIP (as in `experiment.judges`). Raises `ValueError` where files are missing.
    """

    name: str
    pipelines: Mapping[str, Sampling]
    folder: Callable[[str], Path]
    load: Callable[[str, Any], Any]
    python: Callable[[str], Sequence[str]]
    clip: Callable[[], Clip] | None = None
    watcher: Callable[[], Path] | None = None
    vocabulary: Callable[[], Sequence[tuple[str, tuple[str, ...]]]] | None = None
    judges: Callable[[], Sequence[Any]] | None = None
    about: str = ""
    words: Callable[[], Mapping[str, Sequence[str]]] | None = None
    strange: Callable[[str], Sequence[str]] | None = None

    def model_name(self, pipeline: str) -> str:
        """The name of a pipeline where a model is asked for."""
        return self.name if pipeline == next(iter(self.pipelines)) else f"{self.name}/{pipeline}"


@dataclasses.dataclass(frozen=True)
class BundledModel:
    """A pipeline of a bundle."""

    bundle: Bundle
    pipeline: str

    @property
    def sampling(self) -> Sampling:
        """How it is meant to be called."""
        return self.bundle.pipelines[self.pipeline]

    @property
    def folder(self) -> Path:
        """Its folder; see `Bundle.folder`."""
        return self.bundle.folder(self.pipeline)

    def load(self, dtype: object) -> Any:
        """A fresh copy on the CPU; see `Bundle.load`."""
        return self.bundle.load(self.pipeline, dtype)


_BUNDLES: dict[str, Bundle] = {}


def register_bundle(bundle: Bundle) -> None:
    """Make a bundle known by its name. Raises `ValueError` for a name that another one has, or that cannot be one."""
    if not bundle.name or "/" in bundle.name or ":" in bundle.name:
        raise ValueError(f"a bundle cannot be called {bundle.name!r}; take a word without '/' and ':'")
    if not bundle.pipelines:
        raise ValueError(f"the bundle {bundle.name!r} has no pipeline")
    if _BUNDLES.get(bundle.name, bundle) is not bundle:
        raise ValueError(f"another bundle is called {bundle.name!r}")
    _BUNDLES[bundle.name] = bundle


def find_bundle(name: str) -> Bundle | None:
    """The bundle of this name, None for a name that is none."""
    plugins.load()
    return _BUNDLES.get(name)


def bundled_model(name: str) -> BundledModel | None:
    """The pipeline that the name of a model means ("toybox/sd3"), None for a folder or a model of the Hub.

    Raises `ValueError` for the name of a bundle with a pipeline that it has not.
    """
    first, _, pipeline = name.partition("/")
    bundle = find_bundle(first)
    if bundle is None:
        return None
    pipeline = pipeline or next(iter(bundle.pipelines))
    if pipeline not in bundle.pipelines:
        raise ValueError(f"unknown pipeline {name!r}; possible: {', '.join(map(bundle.model_name, bundle.pipelines))}")
    return BundledModel(bundle, pipeline)


def bundled_names() -> list[str]:
    """The names of all pipelines of all bundles, whether their files are there or not."""
    plugins.load()
    return [bundle.model_name(pipeline) for bundle in _BUNDLES.values() for pipeline in bundle.pipelines]
