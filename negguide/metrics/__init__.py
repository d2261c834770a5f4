"""Numbers about pictures: how diverse, how well aligned, and whether the unwanted thing is there."""

from negguide.metrics.alignment import alignment
from negguide.metrics.bootstrap import Interval, bootstrap
from negguide.metrics.clip import Clip
from negguide.metrics.diversity import mss, vendi
from negguide.metrics.labels import distinct, entropy
from negguide.metrics.pixels import pixels
from negguide.metrics.presence import presence

__all__ = ["Clip", "Interval", "alignment", "bootstrap", "distinct", "entropy", "mss", "pixels", "presence", "vendi"]
