"""The oracle: says what is on a 64x64 picture of the Toybox world, attribute by attribute.

>>> judged = Oracle.load().judge(images)
>>> judged.kind, judged.has("a black pet on grass").mean()
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from negguide.toybox.load import assets_dir
from negguide.toybox.oracle_model import HEADS, OracleNet
from negguide.toybox.phrases import NONE, Asked, parse
from negguide.toybox.world import bias

if TYPE_CHECKING:
    from PIL import Image

SIZE = 64
WEIGHTS, CONFIG = "oracle.safetensors", "config.json"


@dataclass(frozen=True)
class Judgement:
    """What the oracle sees on N pictures; every field has one entry per picture.

    Args:
        kind: (N,) one of the kinds, or "none" where no thing can be recognised.
        kind_confidence: (N,) probability of that kind.
        category: (N,) the kind's category, or "none".
        colour, background, style, size, position: (N,) names, as in `Scene`.
        accessories: the worn ones, in the order of `bias.ACCESSORIES`.
        accessory_probability: (N, 3), in that order; above 0.5 counts as worn.
        view: (N,) of faces; "front" for everything else.
        count: (N,) 1 or 2.
        probabilities: each head's (N, values), in the order of `HEADS`.

    Where the kind is "none" the other fields but background and style mean little; `has` takes them as not there.
    """

    kind: np.ndarray
    kind_confidence: np.ndarray
    category: np.ndarray
    colour: np.ndarray
    background: np.ndarray
    accessories: list[tuple[str, ...]]
    accessory_probability: np.ndarray
    view: np.ndarray
    style: np.ndarray
    count: np.ndarray
    size: np.ndarray
    position: np.ndarray
    probabilities: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.kind)

    def has(self, tag: str) -> np.ndarray:
        """(N,) bool: whether all that a tag, noun phrase or prompt names is there.

        Understands every noun (a category stands for any of its kinds), colour, background, accessory, "side view",
        style, size, position and count of the grammar, alone or together: "fruit", "red", "a face with a hat".

        Raises:
            ValueError: for other words, negations and contradictions ("cat, dog"); the message names what is possible.
        """
        return self._shows(parse(tag))

    def matches(self, prompt: str) -> np.ndarray:
        """(N,) bool: whether the picture shows all that the prompt names; the same as `has`."""
        return self.has(prompt)

    def _shows(self, asked: Asked) -> np.ndarray:
        shown = np.ones(len(self), bool)
        if asked.kinds is not None:
            shown &= np.isin(self.kind.astype(str), asked.kinds)
        if asked.of_a_thing:
            shown &= self.kind != NONE
        for name in ("colour", "background", "view", "style", "count", "size", "position"):
            value = getattr(asked, name)
            if value is not None:
                shown &= getattr(self, name) == value
        if asked.view is not None:
            shown &= self.category == "face"
        for accessory in asked.accessories:
            shown &= self.accessory_probability[:, HEADS["accessories"].index(accessory)] > 0.5
        return shown

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary per picture, of plain JSON values."""
        names = ("kind", "category", "colour", "background", "view", "style", "count", "size", "position")
        table = {name: getattr(self, name).tolist() for name in names}
        return [
            {
                **{name: values[i] for name, values in table.items()},
                "accessories": list(self.accessories[i]),
                "kind_confidence": round(float(self.kind_confidence[i]), 4),
            }
            for i in range(len(self))
        ]


class Oracle:
    """A trained classifier of Toybox pictures; see `judge`."""

    def __init__(self, net: OracleNet) -> None:
        self.net = net.eval()

    @classmethod
    def load(cls, folder: Path | str | None = None) -> Oracle:
        """The oracle of a folder (`oracle.safetensors`, `config.json`), by default the bundled one; float32 on the CPU.

        Raises:
            FileNotFoundError: if the folder holds no oracle.
            ValueError: if it was trained on another vocabulary than this version's.
        """
        place = Path(folder) if folder is not None else assets_dir() / "toybox" / "oracle"
        for name in (CONFIG, WEIGHTS):
            if not (place / name).is_file():
                raise FileNotFoundError(f"no oracle in {place}: {name} is missing; train one, or pass its folder")
        config = json.loads((place / CONFIG).read_text())
        if {name: tuple(values) for name, values in config["heads"].items()} != HEADS:
            raise ValueError(f"the oracle in {place} was trained on another vocabulary; train it again")
        net = OracleNet(config["widths"], config["depths"])
        net.load_state_dict({name: value.float() for name, value in load_file(place / WEIGHTS).items()}, strict=False)
        return cls(net)

    def save(self, folder: Path) -> None:
        """Write float16 weights and the configuration."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {
            name: value.detach().cpu().half().contiguous()
            for name, value in self.net.state_dict().items()
            if value.is_floating_point()
        }
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
        (folder / WEIGHTS).chmod(0o644)
        config = {"widths": self.net.widths, "depths": self.net.depths, "heads": HEADS}
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")

    @torch.no_grad()
    def judge(self, images: Sequence[Image.Image] | Image.Image | np.ndarray | Tensor, batch: int = 200) -> Judgement:
        """Say what is on each picture.

        Args:
            images: PIL pictures, or an array (N, H, W, 3), or a tensor (N, 3, H, W); uint8, or floats in [0, 1] as
                diffusers returns them with `output_type` "np" and "pt". Other sizes than 64x64 are resized.
            batch: pictures per forward pass.

        Raises:
            ValueError: if there is no picture or the shape is another.
        """
        pictures = as_tensor(images)
        self.net.eval()
        device = next(self.net.parameters()).device
        parts = []
        for part in torch.split(pictures, batch):
            x = part.to(device).mul(2).sub(1).contiguous(memory_format=torch.channels_last)
            parts.append(self.net(x))
        logits = {name: torch.cat([part[name] for part in parts]).float().cpu() for name in HEADS}
        return _judgement(logits)


def as_tensor(images: Sequence[Image.Image] | Image.Image | np.ndarray | Tensor) -> Tensor:
    """Pictures in any of the forms that `Oracle.judge` takes -> (N, 3, 64, 64) float32 in [0, 1]."""
    if isinstance(images, Tensor):
        x = images.detach().cpu()
        x = x[None] if x.ndim == 3 else x
    else:
        if isinstance(images, np.ndarray):
            stacked = [images[None] if images.ndim == 3 else images]
        else:
            several = images if isinstance(images, Sequence) else [images]
            stacked = [np.asarray(image.convert("RGB"))[None] for image in several]
        if not stacked:
            raise ValueError("no pictures to judge: the list is empty")
        if any(array.ndim != 4 or array.shape[3] != 3 for array in stacked):
            raise ValueError(f"expected pictures (N, H, W, 3), got shape {stacked[0].shape}")
        return torch.cat([_sized(torch.from_numpy(np.array(a)).permute(0, 3, 1, 2)) for a in stacked])
    if x.ndim != 4 or x.shape[1] != 3:
        raise ValueError(f"expected a tensor (N, 3, H, W), got shape {tuple(x.shape)}")
    return _sized(x)


def _sized(x: Tensor) -> Tensor:
    """(N, 3, H, W) uint8 or floats -> (N, 3, 64, 64) float32 in [0, 1]."""
    if not len(x):
        raise ValueError("no pictures to judge: the batch is empty")
    x = x.float() if x.is_floating_point() else x.float().div(255)
    if x.shape[2:] != (SIZE, SIZE):
        x = F.interpolate(x, (SIZE, SIZE), mode="bilinear", antialias=True)
    return x.clamp(0, 1)


def _judgement(logits: dict[str, Tensor]) -> Judgement:
    shares = {
        name: (values.sigmoid() if name == "accessories" else values.softmax(1)).numpy()
        for name, values in logits.items()
    }
    named = {
        name: np.array(HEADS[name], dtype=object)[values.argmax(1)]
        for name, values in shares.items()
        if name != "accessories"
    }
    category = np.array([bias.CATEGORY_OF.get(kind, NONE) for kind in named["kind"]], dtype=object)
    worn = shares["accessories"] > 0.5
    return Judgement(
        kind=named["kind"],
        kind_confidence=shares["kind"].max(1),
        category=category,
        colour=named["colour"],
        background=named["background"],
        accessories=[tuple(np.array(HEADS["accessories"])[row].tolist()) for row in worn],
        accessory_probability=shares["accessories"],
        view=np.where(category == "face", named["view"], "front").astype(object),
        style=named["style"],
        count=named["count"].astype(int),
        size=named["size"],
        position=named["position"],
        probabilities=shares,
    )
