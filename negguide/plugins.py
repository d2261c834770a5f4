"""What other packages bring: methods, families, metrics, watchers and bundled models, found through entry points.

A package names a module or function under the group `negguide.plugins`:

    [project.entry-points."negguide.plugins"]
    theirs = "their_package.negguide_plugin:register"

A function is called without arguments; a module is only imported. Either registers what it brings with `negguide.methods.register`,
`negguide.watchers.register_watcher`, `negguide.names.register_bundle` and their neighbours.
"""

from __future__ import annotations

import inspect
import warnings
from importlib import import_module, metadata

GROUP = "negguide.plugins"

_BUNDLED = ("negguide.toybox.plugin",)
"""Plug-ins of this package itself, which work without an installation too."""

_state = {"loaded": False}


def installed() -> list[metadata.EntryPoint]:
    """The entry points of other packages; reads their metadata only and imports nothing of theirs."""
    return sorted(metadata.entry_points(group=GROUP), key=lambda entry: entry.name)


def load() -> None:
    """Let all plug-ins register what they bring, once per process. One that fails is told and left out."""
    if _state["loaded"]:
        return
    _state["loaded"] = True
    for module in _BUNDLED:
        import_module(module)
    for entry in installed():
        try:
            plugin = entry.load()
            if callable(plugin) and not inspect.ismodule(plugin):
                plugin()
        except Exception as error:  # a stranger's code; without it the rest still works
            warnings.warn(
                f"the plug-in {entry.name!r} ({entry.value}) cannot be loaded: {type(error).__name__}: {error}",
                stacklevel=2,
            )
