"""negguide: say *no* to a diffusion model. Negative guidance for unmodified diffusers pipelines.

>>> import negguide as ng
>>> with ng.attach(pipe, ng.PerpNeg(["glasses", "hat"])):  # doctest: +SKIP
...     images = pipe("a portrait of a person", num_images_per_prompt=4).images
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from negguide import deprecation

if TYPE_CHECKING:
    from negguide.engine.attach import Attachment, attach, detach
    from negguide.engine.guide import GuidedDenoiser, guide
    from negguide.engine.presence_log import PresenceLog
    from negguide.engine.record import StepRecord
    from negguide.methods import (
        APG,
        CADS,
        METHODS,
        NAG,
        SPELL,
        VSF,
        AdaptiveNegatives,
        Avoid,
        Bank,
        CFGZeroStar,
        ContrastiveNegative,
        DynamicNegative,
        EachImage,
        Interval,
        LearnedNegative,
        Mask,
        Method,
        Negative,
        NegativeModel,
        NegativePrompt,
        NegToMe,
        ParticleGuidance,
        PerpNeg,
        Positive,
        Recommended,
        Reference,
        Rescale,
        SeedVariance,
        Views,
        Window,
        format_prompt,
        from_dict,
        from_json,
        get_method,
        negatives,
        parse_prompt,
        parse_weights,
        radius_from,
        to_dict,
        to_json,
        views,
    )
    from negguide.pipeline.families.family import Unsupported

deprecation.install()

__version__ = "0.1.0"

__all__ = [
    "APG",
    "CADS",
    "METHODS",
    "NAG",
    "SPELL",
    "VSF",
    "AdaptiveNegatives",
    "Attachment",
    "Avoid",
    "Bank",
    "CFGZeroStar",
    "ContrastiveNegative",
    "DynamicNegative",
    "EachImage",
    "GuidedDenoiser",
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
    "PresenceLog",
    "Recommended",
    "Reference",
    "Rescale",
    "SeedVariance",
    "StepRecord",
    "Unsupported",
    "Views",
    "Window",
    "__version__",
    "attach",
    "detach",
    "format_prompt",
    "from_dict",
    "from_json",
    "get_method",
    "guide",
    "negatives",
    "parse_prompt",
    "parse_weights",
    "radius_from",
    "to_dict",
    "to_json",
    "views",
]

_INTEGRATION = frozenset(
    {"Attachment", "GuidedDenoiser", "PresenceLog", "StepRecord", "Unsupported", "attach", "detach", "guide"}
)


def __getattr__(name: str) -> Any:
    """Names are imported when they are first used, so that `import negguide` costs next to nothing."""
    names = set(__all__)
    if name not in names and name[0].isupper():  # perhaps the class of a method from a new file or a plug-in
        methods = import_module("negguide.methods")
        names |= {entry.method.__name__ for entry in methods.METHODS.values()}
    if name not in names:
        hint = import_module("negguide.wording").did_you_mean(name, names)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
    value = getattr(import_module("negguide.engine" if name in _INTEGRATION else "negguide.methods"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
