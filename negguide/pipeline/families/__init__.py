"""What must be known of a model family beforehand, one file each; the rest is found out by probing the pipeline."""

from negguide.pipeline.families.checks import (
    GUIDERS,
    SIDE_MODELS,
    check_call,
    check_guider,
    check_kind,
    check_pipeline,
    guider_settings,
    hook_names,
)
from negguide.pipeline.families.family import Family, Rule, Unsupported
from negguide.pipeline.families.registry import (
    FAMILIES,
    GENERIC,
    all_families,
    family_of,
    image_modules_of,
    refusal_of,
    register_family,
    rules_of,
    supported,
    tapped,
    unsupported,
)

__all__ = [
    "FAMILIES",
    "GENERIC",
    "GUIDERS",
    "SIDE_MODELS",
    "Family",
    "Rule",
    "Unsupported",
    "all_families",
    "check_call",
    "check_guider",
    "check_kind",
    "check_pipeline",
    "family_of",
    "guider_settings",
    "hook_names",
    "image_modules_of",
    "refusal_of",
    "register_family",
    "rules_of",
    "supported",
    "tapped",
    "unsupported",
]
