"""How a stock diffusers pipeline is entered and left: attach, probe, run. No method is known here by name."""

from negguide.engine.attach import Attachment, attach, detach
from negguide.engine.guide import GuidedDenoiser, guide
from negguide.engine.presence_log import PresenceLog
from negguide.engine.record import StepRecord
from negguide.pipeline.families import Unsupported

__all__ = ["Attachment", "GuidedDenoiser", "PresenceLog", "StepRecord", "Unsupported", "attach", "detach", "guide"]
