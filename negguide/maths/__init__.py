"""The formulas: pure tensor functions with the papers' symbols; they import torch only."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from negguide.maths.annealing import cads, cads_gamma, seed_variance
    from negguide.maths.attention import flip_values, nag, orthogonal_end
    from negguide.maths.contrastive import ccfg_weights
    from negguide.maths.directions import dot, masked_perpendicular, norm, perp_neg, perpendicular, projection, widen
    from negguide.maths.dynamic import dng_drift, dng_odds, dng_update, log_likelihood_ratio, snr, squared_distance
    from negguide.maths.negatives import compose, mixture, signed, sum_terms
    from negguide.maths.negtome import best_among_others, best_match, push_apart, push_from
    from negguide.maths.repulsion import distances, nearest, particle_guidance, spell
    from negguide.maths.stabilisers import apg, cfg_zero_star, clip_norm, rescale
    from negguide.maths.steering import fit_steering, steer
    from negguide.maths.views import ViewWeights, view_weights

__all__ = [
    "ViewWeights",
    "apg",
    "best_among_others",
    "best_match",
    "cads",
    "cads_gamma",
    "ccfg_weights",
    "cfg_zero_star",
    "clip_norm",
    "compose",
    "distances",
    "dng_drift",
    "dng_odds",
    "dng_update",
    "dot",
    "fit_steering",
    "flip_values",
    "log_likelihood_ratio",
    "masked_perpendicular",
    "mixture",
    "nag",
    "nearest",
    "norm",
    "orthogonal_end",
    "particle_guidance",
    "perp_neg",
    "perpendicular",
    "projection",
    "push_apart",
    "push_from",
    "rescale",
    "seed_variance",
    "signed",
    "snr",
    "spell",
    "squared_distance",
    "steer",
    "sum_terms",
    "view_weights",
    "widen",
]

_ROOMS = (
    "annealing",
    "attention",
    "contrastive",
    "directions",
    "dynamic",
    "negatives",
    "negtome",
    "repulsion",
    "stabilisers",
    "steering",
    "views",
)


def __getattr__(name: str) -> Any:
    """A formula is imported when it is first used, so that methods can be named and checked before torch is loaded."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    rooms = (vars(import_module(f"{__name__}.{room}")) for room in _ROOMS)
    value = next(room[name] for room in rooms if name in room)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
