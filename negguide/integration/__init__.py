"""How a stock diffusers pipeline is entered and left: attach, probe, run. No method is known here by name."""

from negguide.integration.attach import Attachment, attach, detach
from negguide.integration.families import Unsupported
from negguide.integration.record import StepRecord

__all__ = ["Attachment", "StepRecord", "Unsupported", "attach", "detach"]
