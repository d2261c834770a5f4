"""JoyImage-Edit."""

from negguide.integration.families.family import Family
from negguide.integration.post import norm_of_channels

FAMILY = Family("JoyImage", ("JoyImageEdit", "JoyImageEditPlus"), post=norm_of_channels)
