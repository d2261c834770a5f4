"""negguide: say *no* to a diffusion model. Negative guidance for unmodified diffusers pipelines.

>>> import negguide as ng
>>> with ng.attach(pipe, ng.PerpNeg(["glasses", "hat"])):  # doctest: +SKIP
...     images = pipe("a portrait of a person", num_images_per_prompt=4).images
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from negguide import deprecation

if TYPE_CHECKING:
    from negguide.integration import Attachment, StepRecord, Unsupported, attach
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
        Mask,
        Method,
        Negative,
        NegativePrompt,
        NegToMe,
        ParticleGuidance,
        PerpNeg,
        Positive,
        Reference,
        Rescale,
        Window,
        format_prompt,
        from_dict,
        from_json,
        get_method,
        parse_prompt,
        parse_weights,
        radius_from,
        to_dict,
        to_json,
    )

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
    "Interval",
    "Mask",
    "Method",
    "NegToMe",
    "Negative",
    "NegativePrompt",
    "ParticleGuidance",
    "PerpNeg",
    "Positive",
    "Reference",
    "Rescale",
    "StepRecord",
    "Unsupported",
    "Window",
    "__version__",
    "attach",
    "format_prompt",
    "from_dict",
    "from_json",
    "get_method",
    "parse_prompt",
    "parse_weights",
    "radius_from",
    "to_dict",
    "to_json",
]

_INTEGRATION = frozenset({"Attachment", "StepRecord", "Unsupported", "attach"})


def __getattr__(name: str) -> Any:
    """Names are imported when they are first used, so that `import negguide` costs next to nothing."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "negguide.integration" if name in _INTEGRATION else "negguide.methods"
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
