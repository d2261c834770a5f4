"""What must be known of a model family beforehand, one file each; the rest is found out by probing the pipeline."""

from negguide.pipeline.families.checks import SIDE_MODELS, check_call, check_kind, check_pipeline, hook_names
from negguide.pipeline.families.family import Family, Rule, Unsupported
from negguide.pipeline.families.registry import (
    FAMILIES,
    GENERIC,
    RULES,
    SUPPORTED,
    TAPPED,
    family_of,
    image_modules_of,
    refusal_of,
    rules_of,
    unsupported,
)

__all__ = [
    "FAMILIES",
    "GENERIC",
    "RULES",
    "SIDE_MODELS",
    "SUPPORTED",
    "TAPPED",
    "Family",
    "Rule",
    "Unsupported",
    "check_call",
    "check_kind",
    "check_pipeline",
    "family_of",
    "hook_names",
    "image_modules_of",
    "refusal_of",
    "rules_of",
    "unsupported",
]
