"""Whether a value is a tensor, asked without importing torch, so that a method's options can be checked before it loads."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TypeGuard

    from torch import Tensor


def is_tensor(value: object) -> TypeGuard[Tensor]:
    """Whether `value` is a `torch.Tensor`; where torch is not imported, nothing is."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)
