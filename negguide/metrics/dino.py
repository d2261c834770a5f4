"""Features of any self-supervised vision model of transformers, such as DINOv2: a kernel that knows no words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from negguide.metrics.absent import Absent

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

MODEL = "facebook/dinov2-small"
BATCH = 16


class Dino:
    """Pictures -> (N, C) float32, the class token of the last layer.

    `name`: a folder or a model of the Hub whose copy is here already. Raises `Absent` when it is not.
    """

    def __init__(self, name: str = MODEL) -> None:
        from transformers import AutoImageProcessor, AutoModel

        try:
            self._processor: Any = AutoImageProcessor.from_pretrained(name, local_files_only=True)
            self._model: Any = AutoModel.from_pretrained(name, local_files_only=True).eval()
        except (OSError, ValueError, ImportError) as error:
            raise Absent(f"the DINO kernel needs the model {name}: fetch it with hf download {name}") from error
        self.name = name

    def __call__(self, pictures: Sequence[Image]) -> Tensor:
        import torch

        rows = []
        with torch.no_grad():
            for start in range(0, len(pictures), BATCH):
                part = [picture.convert("RGB") for picture in pictures[start : start + BATCH]]
                output = self._model(**self._processor(images=part, return_tensors="pt"))
                rows.append(output.last_hidden_state[:, 0].float())
        return torch.cat(rows)
