"""Old names that still work for one version, with a warning: modules that have moved."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

GONE_IN = "0.3"
"""The version in which old names stop working."""

MOVED_MODULES = {
    "negguide.compare.arms": "negguide.experiment.arms",
    "negguide.compare.call": "negguide.experiment.sampling",
    "negguide.compare.columns": "negguide.experiment.columns",
    "negguide.compare.judges": "negguide.experiment.judges",
    "negguide.compare.models": "negguide.experiment.models",
    "negguide.compare.recipe": "negguide.experiment.recipe",
    "negguide.compare.request": "negguide.experiment.tasks",
    "negguide.engine.answers": "negguide.pipeline.answers",
    "negguide.engine.argument_tree": "negguide.pipeline.argument_tree",
    "negguide.engine.call": "negguide.pipeline.call",
    "negguide.engine.checks": "negguide.pipeline.checks",
    "negguide.engine.each_image": "negguide.pipeline.each_image",
    "negguide.engine.families": "negguide.pipeline.families",
    "negguide.engine.front_end": "negguide.pipeline.front_end",
    "negguide.engine.given": "negguide.pipeline.given",
    "negguide.engine.guidance": "negguide.pipeline.guidance",
    "negguide.engine.intercept": "negguide.pipeline.intercept",
    "negguide.engine.layout": "negguide.pipeline.layout",
    "negguide.engine.levels": "negguide.pipeline.levels",
    "negguide.engine.live": "negguide.pipeline.live",
    "negguide.engine.pipeline_rescale": "negguide.pipeline.own_rescale",
    "negguide.engine.plan": "negguide.pipeline.plan",
    "negguide.engine.plan_cache": "negguide.pipeline.plan_cache",
    "negguide.engine.plan_data": "negguide.pipeline.plan_data",
    "negguide.engine.probe": "negguide.pipeline.probe",
    "negguide.engine.schedule": "negguide.pipeline.schedule",
    "negguide.engine.side_models": "negguide.pipeline.side_models",
    "negguide.engine.stale": "negguide.pipeline.stale",
    "negguide.engine.takeover": "negguide.pipeline.takeover",
    "negguide.engine.text_tokens": "negguide.pipeline.text_tokens",
    "negguide.engine.unread": "negguide.pipeline.unread",
    "negguide.methods.policy": "negguide.methods.adaptive.policy",
    "negguide.methods.watching": "negguide.methods.adaptive.session",
    "negguide.integration": "negguide.engine",
    "negguide.integration.attention": "negguide.engine.attention_layers",
    "negguide.integration.model": "negguide.engine.context",
    "negguide.integration.pictures": "negguide.engine.latents",
    "negguide.integration.post": "negguide.pipeline.own_rescale",
    "negguide.integration.riders": "negguide.engine.extra_rows",
    "negguide.integration.side": "negguide.pipeline.side_models",
    "negguide.integration.swap": "negguide.pipeline.intercept",
    "negguide.integration.taps": "negguide.engine.attention_hooks",
    "negguide.integration.tree": "negguide.pipeline.argument_tree",
    "negguide.toybox.bench": "lab.bench",
    "negguide.toybox.generate": "lab.generate",
    "negguide.toybox.score": "lab.score",
    "negguide.toybox.train": "lab.train",
    "negguide.vlm": "negguide.watchers",
}
"""Old module -> new module; what lies inside a moved package moved with it."""


def _through_new_packages() -> dict[str, str]:
    """`from old_package import old_module` looks for the old module in the new package: there it is known too."""
    halves = ((old.rpartition("."), new) for old, new in MOVED_MODULES.items())
    return {
        f"{MOVED_MODULES[package]}.{module}": new
        for (package, _, module), new in halves
        if package in MOVED_MODULES and f"{MOVED_MODULES[package]}.{module}" != new
    }


_KNOWN = {**_through_new_packages(), **MOVED_MODULES}


def deprecated(old: str, new: str, stacklevel: int = 2) -> None:
    """Warn that a name is now another one.

    Args:
        old: the name that was used, as the user writes it.
        new: the name to use.
        stacklevel: as in `warnings.warn`, counted from the function that calls this one.
    """
    warnings.warn(f"{old} is now {new}; the old name goes with {GONE_IN}", DeprecationWarning, stacklevel + 1)


def new_module_name(name: str) -> str | None:
    """The module that an old module name stands for, None for any other name."""
    parts = name.split(".")
    for length in range(len(parts), 1, -1):
        package = ".".join(parts[:length])
        if package in _KNOWN:
            new = ".".join([_KNOWN[package], *parts[length:]])
            return new_module_name(new) or new
    return None


class _MovedModule(Loader):
    """Loads a module under its old name: it is the very module of the new name."""

    def __init__(self, new: str) -> None:
        self._new = new

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        deprecated(spec.name, self._new)  # frames of the import system are not counted
        if self._new.startswith("lab."):
            _find_laboratory()
        module = import_module(self._new)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # the import system has put the old name's in its place


class MovedModules(MetaPathFinder):
    """Finds modules by their old names; asked last, so it costs nothing while the new ones are used."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module that has moved, None for any other."""
        new = new_module_name(fullname)
        return None if new is None else ModuleSpec(fullname, _MovedModule(new))


def _find_laboratory() -> None:
    """The laboratory is no part of the package; in a checkout it lies beside it."""
    root = Path(__file__).resolve().parents[1]
    if (root / "lab").is_dir() and str(root) not in sys.path:
        sys.path.append(str(root))


def install() -> None:
    """Let old module names be imported. Installing it again does nothing."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())
