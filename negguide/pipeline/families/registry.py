"""All families, found as the files of this folder, and the look-up of a family by pipeline or denoiser class."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from pathlib import Path

from negguide.pipeline.families.family import Family, ImageModules, Rule, Unsupported, names
from negguide.plugins import load as load_plugins

GENERIC = Family("generic", ())
"""What holds for pipelines without a file of their own: all of it is found out by probing."""


def _of_this_folder() -> tuple[Family, ...]:
    here = __name__.rpartition(".")[0]
    files = (info.name for info in pkgutil.iter_modules([str(Path(__file__).parent)]))
    modules = (
        importlib.import_module(f"{here}.{name}")
        for name in sorted(files)
        if name not in ("checks", "matrix", "registry")
    )
    return tuple(module.FAMILY for module in modules if hasattr(module, "FAMILY"))


FAMILIES: tuple[Family, ...] = _of_this_folder()
"""Those of this package."""

_theirs: list[Family] = []


def register_family(family: Family) -> None:
    """Make a family of another package known: its pipeline classes by name, and the layers of its denoisers.

    Args:
        family: as the files of this folder hold it; what it says of a class goes before what this package says.

    Raises:
        ValueError: it has no name, or that of another family.
    """
    if not family.name or any(other.name == family.name and other is not family for other in all_families()):
        raise ValueError(f"a family cannot be called {family.name!r}: it needs a name of its own")
    if family not in _theirs:
        _theirs.append(family)
        _facts_of.cache_clear()


def all_families() -> tuple[Family, ...]:
    """The families of other packages, and those of this one."""
    load_plugins()
    return (*_theirs, *FAMILIES)


def supported() -> str:
    """The families with a file of their own, in words."""
    return ", ".join(
        f"{family.name} (by takeover: guidance_scale= given to attach)" if family.taken_over else family.name
        for family in all_families()
        if family.pipelines
    )


def tapped() -> str:
    """The families whose image tokens can be listened to, in words."""
    return ", ".join(family.name for family in all_families() if family.layers)


def unsupported(what: str, why: str) -> Unsupported:
    """The refusal of something by name, with the reason and what can be used."""
    return Unsupported(f"{what} is not supported: {why}. Supported: {supported()}.")


def family_of(cls: type) -> Family:
    """The family of a pipeline class: its own where it is stock, else that of the stock class from which it is made."""
    load_plugins()
    return _facts_of(cls)[0]


def refusal_of(cls: type) -> str | None:
    """Why a pipeline class cannot be guided; None where nothing is known against it."""
    load_plugins()
    return _facts_of(cls)[1]


@functools.lru_cache(maxsize=256)
def _facts_of(cls: type) -> tuple[Family, str | None]:
    own = [a.__name__ for a in cls.__mro__]
    for family in _theirs:
        if any(names(prefix, name) for prefix in family.pipelines for name in own):
            return family, None
    for name in _class_names(cls):
        rows: list[tuple[int, Family, str | None]] = []
        for family in FAMILIES:
            rows += [(len(prefix), family, None) for prefix in family.pipelines if names(prefix, name)]
            rows += [(len(p), family, why) for p, why in family.refused_pipelines.items() if names(p, name)]
        if rows:
            _, family, why = max(rows, key=lambda row: (row[0], row[2] is not None))
            return family, why
    return GENERIC, None


def _class_names(cls: type) -> list[str]:
    """Names of the pipeline classes in an ancestry, never of mixins: diffusers' own, or else those of somebody's own."""
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

    pipelines = [a for a in cls.__mro__ if issubclass(a, DiffusionPipeline) and a is not DiffusionPipeline]
    stock = [a for a in pipelines if a.__module__.startswith("diffusers.")]
    return [ancestor.__name__ for ancestor in stock or pipelines]


def image_modules_of(denoiser: str) -> ImageModules | None:
    """The modules that see image tokens alone, by the name of the denoiser class."""
    families = [family.image_modules for family in all_families() if family.image_modules]
    return next((m for m in families if any(names(begin, denoiser) for begin in m.denoisers)), None)


def rules_of(denoiser: str) -> list[Rule]:
    """The attention layers of a denoiser class by its name."""
    rules = [rule for family in all_families() for rule in family.layers]
    fitting = [(len(begin), rule) for rule in rules for begin in rule.denoisers if names(begin, denoiser)]
    longest = max((length for length, _ in fitting), default=0)
    return list(dict.fromkeys(rule for length, rule in fitting if length == longest))
