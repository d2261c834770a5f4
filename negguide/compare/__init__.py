"""The main job: one prompt, several methods, the same seeds; pictures, numbers and a report."""

from negguide.compare.arms import Arm, parse_arms
from negguide.compare.records import Results
from negguide.compare.request import Request
from negguide.compare.run import compare

__all__ = ["Arm", "Request", "Results", "compare", "parse_arms"]
