"""Perceptual distances between pictures of a set, as a measure of their diversity: LPIPS and DreamSim."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negguide.metrics.absent import Absent, checkpoint, require
from negguide.metrics.diversity import mss

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

NETS = {"alex": "AlexNet_Weights", "squeeze": "SqueezeNet1_1_Weights", "vgg": "VGG16_Weights"}
MOST = 64
"""Of more pictures so many, evenly chosen, are compared: their pairs grow with the square."""
SMALLEST = 64
"""Smaller pictures are enlarged for LPIPS, whose networks shrink them by 32."""


class Lpips:
    """Mean LPIPS (arXiv:1801.03924) over all pairs of pictures, by torchmetrics; higher is more diverse.

    `net`: "alex", "squeeze" or "vgg". Raises `Absent` when torchmetrics or the network's torchvision weights are not here.
    """

    def __init__(self, net: str = "alex") -> None:
        if net not in NETS:
            raise ValueError(f"the network of LPIPS is {net!r}; possible: {', '.join(NETS)}")
        models = require("torchvision.models", "LPIPS")
        checkpoint(getattr(models, NETS[net]).IMAGENET1K_V1.url, f"LPIPS ({net})")
        image = require("torchmetrics.image.lpip", "LPIPS")
        self._metric: Any = image.LearnedPerceptualImagePatchSimilarity(net, reduction="none", normalize=True).eval()

    def __call__(self, pictures: Sequence[Image]) -> float:
        """Pictures (at least two, brought to the size of the first; at most `MOST`, evenly chosen) -> their mean distance."""
        import torch

        if len(pictures) < 2:
            raise ValueError(f"distances between pictures need at least 2 of them, got {len(pictures)}")
        rows = _tensors(evenly(pictures, MOST))
        distances = []
        with torch.no_grad():
            for first, *others in (rows[place:] for place in range(len(rows) - 1)):
                self._metric.reset()
                self._metric.update(first[None].expand(len(others), -1, -1, -1), torch.stack(others))
                distances.append(self._metric.compute().reshape(-1))
        return float(torch.cat(distances).double().mean())


class DreamSim:
    """Mean DreamSim distance (arXiv:2306.09344) over all pairs of pictures; higher is more diverse.

    `folder`: where its weights lie, by default `dreamsim` in torch.hub's folder. Raises `Absent` without library or weights.
    """

    def __init__(self, folder: Path | None = None, kind: str = "ensemble") -> None:
        import torch

        place = folder or Path(torch.hub.get_dir()) / "dreamsim"
        tag = "ensemble_lora" if kind == "ensemble" else f"{kind}_single_lora"
        library = require("dreamsim", "DreamSim")
        if not (place / tag / "adapter_config.json").is_file():
            raise Absent(
                f"DreamSim needs its weights in {place}: fetch them once with python -c "
                f'\'from dreamsim import dreamsim; dreamsim(device="cpu", cache_dir="{place}", dreamsim_type="{kind}")\''
            )
        model, preprocess = library.dreamsim(device="cpu", cache_dir=str(place), dreamsim_type=kind)
        self.embed: Callable[[Sequence[Image]], Tensor] = lambda pictures: torch.cat(
            [model.embed(preprocess(picture)) for picture in pictures]
        )

    def __call__(self, pictures: Sequence[Image]) -> float:
        """Pictures (at least two) -> their mean distance, 1 less the cosine of their embeddings."""
        import torch

        with torch.no_grad():
            return 1.0 - mss(self.embed(pictures))


def evenly(items: Sequence[Image], most: int) -> Sequence[Image]:
    """At most so many of the items, spread over all of them, in order."""
    count = len(items)
    return items if count <= most else [items[place * count // most] for place in range(most)]


def _tensors(pictures: Sequence[Image]) -> list[Tensor]:
    """(3, H, W) in [0, 1], all of the first one's size, at least `SMALLEST`."""
    import numpy as np
    import torch

    width, height = (max(side, SMALLEST) for side in pictures[0].size)
    resized = [picture.convert("RGB").resize((width, height)) for picture in pictures]
    return [torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255 for picture in resized]
