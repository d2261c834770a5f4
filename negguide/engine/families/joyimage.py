"""JoyImage-Edit."""

from negguide.engine.families.family import Family
from negguide.engine.pipeline_rescale import norm_of_channels

FAMILY = Family("JoyImage", ("JoyImageEdit", "JoyImageEditPlus"), post=norm_of_channels)
