"""Numbers about pictures: how diverse, how well aligned, how new, how far from others, and whether the unwanted is there."""

from negguide.metrics.absent import Absent
from negguide.metrics.alignment import alignment
from negguide.metrics.bootstrap import Interval, bootstrap
from negguide.metrics.clip import Clip
from negguide.metrics.detection import Detection, calibrate, detect
from negguide.metrics.dino import Dino
from negguide.metrics.distances import cmmd, fid, inception, kid
from negguide.metrics.diversity import mss, vendi
from negguide.metrics.labels import distinct, entropy
from negguide.metrics.novelty import nearest, novelty, total_variance
from negguide.metrics.perceptual import DreamSim, Lpips
from negguide.metrics.pixels import pixels
from negguide.metrics.presence import presence

__all__ = [
    "Absent",
    "Clip",
    "Detection",
    "Dino",
    "DreamSim",
    "Interval",
    "Lpips",
    "alignment",
    "bootstrap",
    "calibrate",
    "cmmd",
    "detect",
    "distinct",
    "entropy",
    "fid",
    "inception",
    "kid",
    "mss",
    "nearest",
    "novelty",
    "pixels",
    "presence",
    "total_variance",
    "vendi",
]
