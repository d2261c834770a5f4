"""The formulas: pure tensor functions with the papers' symbols; they import torch only."""

from negguide.maths.contrastive import ccfg_weights
from negguide.maths.dynamic import dng_odds, dng_update, log_likelihood_ratio, snr, squared_distance
from negguide.maths.negatives import compose, mixture, signed, sum_terms
from negguide.maths.projection import dot, masked_perpendicular, norm, perp_neg, perpendicular, projection, widen
from negguide.maths.stabilisers import apg, cfg_zero_star, clip_norm, rescale
from negguide.maths.views import ViewWeights, view_weights

__all__ = [
    "ViewWeights",
    "apg",
    "ccfg_weights",
    "cfg_zero_star",
    "clip_norm",
    "compose",
    "dng_odds",
    "dng_update",
    "dot",
    "log_likelihood_ratio",
    "masked_perpendicular",
    "mixture",
    "norm",
    "perp_neg",
    "perpendicular",
    "projection",
    "rescale",
    "signed",
    "snr",
    "squared_distance",
    "sum_terms",
    "view_weights",
    "widen",
]
