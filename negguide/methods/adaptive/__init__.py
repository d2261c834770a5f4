"""Adaptive negatives: the method, its options, one run of it, and policies."""

from negguide.methods.adaptive.config import GUARD_LOOKS, KINDS, LOOKS
from negguide.methods.adaptive.method import AdaptiveNegatives

__all__ = ["GUARD_LOOKS", "KINDS", "LOOKS", "AdaptiveNegatives"]
