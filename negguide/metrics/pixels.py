"""Features without any model: small centred pictures, for diversity where no CLIP is at hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

SIDE = 16


def pixels(pictures: Sequence[Image]) -> Tensor:
    """PIL pictures -> (N, 16 * 16 * 3) float32 rows, colours in [-1, 1] about middle grey; for `vendi` and `mss`.

    A crude kernel: it sees layout and colour, not what is shown.
    """
    import numpy as np
    import torch
    from PIL import Image

    small = [picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX) for picture in pictures]
    rows = np.stack([np.asarray(picture, dtype=np.float32).reshape(-1) for picture in small])
    return torch.from_numpy(rows / 127.5 - 1)
