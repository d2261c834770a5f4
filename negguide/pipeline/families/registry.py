"""All families, found as the files of this folder, and the look-up of a family by pipeline or denoiser class."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from pathlib import Path

from negguide.pipeline.families.family import Family, Rule, Unsupported, names

GENERIC = Family("generic", ())
"""What holds for pipelines without a file of their own: all of it is found out by probing."""


def _of_this_folder() -> tuple[Family, ...]:
    here = __name__.rpartition(".")[0]
    files = (info.name for info in pkgutil.iter_modules([str(Path(__file__).parent)]))
    modules = (
        importlib.import_module(f"{here}.{name}") for name in sorted(files) if name not in ("checks", "registry")
    )
    return tuple(module.FAMILY for module in modules if hasattr(module, "FAMILY"))


FAMILIES: tuple[Family, ...] = _of_this_folder()
RULES: tuple[Rule, ...] = tuple(rule for family in FAMILIES for rule in family.layers)
SUPPORTED = ", ".join(
    f"{family.name} (by takeover: guidance_scale= given to attach)" if family.taken_over else family.name
    for family in FAMILIES
    if family.pipelines
)
"""The families with a file of their own, in words."""
TAPPED = ", ".join(family.name for family in FAMILIES if family.layers)
"""The families whose image tokens can be listened to, in words."""


def unsupported(what: str, why: str) -> Unsupported:
    """The refusal of something by name, with the reason and what can be used."""
    return Unsupported(f"{what} is not supported: {why}. Supported: {SUPPORTED}.")


def family_of(cls: type) -> Family:
    """The family of a pipeline class: its own where it is stock, else that of the stock class from which it is made."""
    return _facts_of(cls)[0]


def refusal_of(cls: type) -> str | None:
    """Why a pipeline class cannot be guided; None where nothing is known against it."""
    return _facts_of(cls)[1]


@functools.lru_cache(maxsize=256)
def _facts_of(cls: type) -> tuple[Family, str | None]:
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
    from diffusers import DiffusionPipeline

    pipelines = [a for a in cls.__mro__ if issubclass(a, DiffusionPipeline) and a is not DiffusionPipeline]
    stock = [a for a in pipelines if a.__module__.startswith("diffusers.")]
    return [ancestor.__name__ for ancestor in stock or pipelines]


def image_modules_of(denoiser: str) -> str | None:
    """The pattern of the paths of modules that see image tokens alone, by the name of the denoiser class."""
    known = [family.image_modules for family in FAMILIES if family.image_modules]
    return next((m.pattern for m in known if any(names(begin, denoiser) for begin in m.denoisers)), None)


def rules_of(denoiser: str) -> list[Rule]:
    """The attention layers of a denoiser class by its name."""
    fitting = [(len(begin), rule) for rule in RULES for begin in rule.denoisers if names(begin, denoiser)]
    longest = max((length for length, _ in fitting), default=0)
    return list(dict.fromkeys(rule for length, rule in fitting if length == longest))
