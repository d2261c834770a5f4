"""The main job: one prompt, several methods, the same seeds; pictures, numbers and a report."""

from negguide.compare.records import Results
from negguide.compare.run import compare
from negguide.experiment.arms import Arm, parse_arms
from negguide.experiment.tasks import Request

__all__ = ["Arm", "Request", "Results", "compare", "parse_arms"]
