"""The methods: one frozen config per file that says what it wants at each step and how it edits guidance.

A file that is added to this folder is found by itself: what it registers has its name here and in `negguide`. Naming it
below as well gives it its place in lists, and its type to editors.
"""

# ruff: noqa: I001 (methods are imported in the order in which lists show them)

from importlib import import_module as _import_module
from pkgutil import iter_modules as _iter_modules
from typing import Any as _Any

from negguide import plugins as _plugins
from negguide.methods.avoid import Avoid
from negguide.methods.bank import Bank
from negguide.methods.base import (
    OWN,
    UNCONDITIONAL,
    Condition,
    Denoised,
    EachImage,
    Embeddings,
    Guidance,
    Method,
    Step,
    Window,
)
from negguide.methods.mask import Mask
from negguide.methods.reference import Reference
from negguide.methods.negative import Concept, Negative, Positive
from negguide.methods.negative_prompt import NegativePrompt
from negguide.methods.perp_neg import PerpNeg
from negguide.methods.contrastive import ContrastiveNegative
from negguide.methods.dynamic import DynamicNegative
from negguide.methods.negative_model import NegativeModel
from negguide.methods.nag import NAG
from negguide.methods.learned_negative import LearnedNegative
from negguide.methods.vsf import VSF
from negguide.methods.recommended import Recommended, negatives
from negguide.methods.adaptive import AdaptiveNegatives
from negguide.methods.negtome import NegToMe
from negguide.methods.repulsion import SPELL, ParticleGuidance, radius_from
from negguide.methods.cads import CADS
from negguide.methods.seed_variance import SeedVariance
from negguide.methods.apg import APG
from negguide.methods.cfg_zero_star import CFGZeroStar
from negguide.methods.rescale import Rescale
from negguide.methods.interval import Interval
from negguide.methods.inline import parse_weights
from negguide.methods.view_prompts import Views, views
from negguide.methods.prompt import format_prompt, parse_prompt
from negguide.methods.registry import METHODS, Entry, from_dict, from_json, get_method, register, to_dict, to_json

__all__ = [
    "APG",
    "CADS",
    "METHODS",
    "NAG",
    "OWN",
    "SPELL",
    "UNCONDITIONAL",
    "VSF",
    "AdaptiveNegatives",
    "Avoid",
    "Bank",
    "CFGZeroStar",
    "Concept",
    "Condition",
    "ContrastiveNegative",
    "Denoised",
    "DynamicNegative",
    "EachImage",
    "Embeddings",
    "Entry",
    "Guidance",
    "Interval",
    "LearnedNegative",
    "Mask",
    "Method",
    "NegToMe",
    "Negative",
    "NegativeModel",
    "NegativePrompt",
    "ParticleGuidance",
    "PerpNeg",
    "Positive",
    "Recommended",
    "Reference",
    "Rescale",
    "SeedVariance",
    "Step",
    "Views",
    "Window",
    "format_prompt",
    "from_dict",
    "from_json",
    "get_method",
    "negatives",
    "parse_prompt",
    "parse_weights",
    "radius_from",
    "register",
    "to_dict",
    "to_json",
    "views",
]


def __getattr__(name: str) -> _Any:
    """The class of a registered method that is not named above: of a new file, or of another package's plug-in."""
    for entry in METHODS.values():
        if entry.method.__name__ == name:
            return entry.method
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


for _module in _iter_modules(__path__):
    _import_module(f"{__name__}.{_module.name}")
_plugins.load()
