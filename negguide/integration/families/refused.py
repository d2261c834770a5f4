"""Pipelines that cannot be guided as they are, with the reasons."""

from negguide.integration.families.family import Family

_THREE_WAYS = "it guides in three directions at once"
FAMILY = Family(
    "refused",
    (),
    refused_pipelines={
        "AnimateDiff": "its text rows are repeated per frame and no row layout is known yet",
        "PIA": "its text rows are repeated per frame and no row layout is known yet",
        "LTX2": "it predicts video and audio together, with extra perturbed passes",
        "DreamLite": _THREE_WAYS,
        "OmniGen": _THREE_WAYS,
    },
)
