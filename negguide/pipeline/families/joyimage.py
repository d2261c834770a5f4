"""JoyImage-Edit."""

from negguide.pipeline.families.family import Family
from negguide.pipeline.own_rescale import norm_of_channels

FAMILY = Family("JoyImage", ("JoyImageEdit", "JoyImageEditPlus"), post=norm_of_channels)
