"""The oracle: how the classifier that judges Toybox pictures is trained and measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.train.card import stages_of, write_card
from lab.train.common import Settings, Trainer, autocast, batches, device, to_model
from lab.train.data import Dataset
from lab.train.spoil import empty_scenes, spoil, unrecognisable
from negguide.toybox.oracle import Oracle
from negguide.toybox.oracle_model import HEADS, OracleNet
from negguide.toybox.phrases import NONE
from negguide.toybox.world.scene import Scene

if TYPE_CHECKING:
    pass

SETTINGS = Settings(steps=2000, batch=64, lr=2e-3, ema=0.995, warmup=100)
"""On renders, slightly spoiled."""

NONE_SHARE: Final = 0.09
"""Share of a batch that shows no recognisable thing."""
UNKNOWN: Final = -100
"""The label that no loss looks at."""
EXCLUSIVE: Final = tuple(name for name in HEADS if name != "accessories")


def labels(scenes: list[Scene]) -> dict[str, Tensor]:
    """The truth for every head: (N,) indices, and (N, 3) zeros and ones for the accessories; views of faces only."""
    truth = {name: torch.tensor([HEADS[name].index(getattr(scene, name)) for scene in scenes]) for name in EXCLUSIVE}
    truth["view"][torch.tensor([scene.category != "face" for scene in scenes])] = UNKNOWN
    truth["accessories"] = torch.tensor(
        [[float(name in scene.accessories) for name in HEADS["accessories"]] for scene in scenes]
    )
    return truth


def losses(logits: dict[str, Tensor], truth: dict[str, Tensor]) -> dict[str, Tensor]:
    """Cross-entropy of every head over the pictures whose truth is known."""
    made = {name: F.cross_entropy(logits[name], truth[name], ignore_index=UNKNOWN) for name in EXCLUSIVE}
    known = truth["accessories"][:, 0] >= 0
    made["accessories"] = 3 * F.binary_cross_entropy_with_logits(
        logits["accessories"][known], truth["accessories"][known]
    )
    return made


class Batches:
    """Endless training batches: spoiled renders, and pictures of nothing.

    Args:
        data: the renders.
        settings: batch size and seed.
        start: the step to begin with.
    """

    def __init__(self, data: Dataset, settings: Settings, start: int) -> None:
        self.data = data
        self.truth = labels(data.scenes)
        self.nothing = round(settings.batch * NONE_SHARE)
        self.rng = np.random.default_rng([settings.seed, start, 7])
        self.order = batches(len(data), settings.batch, settings.seed, start)
        self.empties, self.grounds = empty_scenes(1500, settings.seed)

    def __next__(self) -> tuple[Tensor, dict[str, Tensor]]:
        index = next(self.order)
        mixing = self.rng.permutation(len(index))
        index, x = index[mixing], to_model(self.data.images[index][mixing])
        truth = {name: values[index].to(device()) for name, values in self.truth.items()}

        n = self.nothing
        grounds = self.rng.integers(len(self.empties), size=n)
        empties = to_model(self.empties[grounds])
        kinds = truth["kind"]
        others = [self._of_another_kind(place, kinds) for place in range(n)]
        x[:n] = unrecognisable(x[:n], x[others], empties)
        truth = {name: values.clone() for name, values in truth.items()}
        for values in truth.values():
            values[:n] = UNKNOWN
        truth["kind"][:n] = HEADS["kind"].index(NONE)
        bare = n // 4
        x[:bare] = empties[:bare]
        truth["background"][:bare] = torch.from_numpy(self.grounds[grounds[:bare]]).to(device())
        return spoil(x), truth

    def _of_another_kind(self, place: int, kinds: Tensor) -> int:
        """Some picture of the batch with another kind than that at `place`."""
        different = torch.nonzero(kinds != kinds[place]).flatten().tolist() or [place]
        return int(self.rng.choice(different))


def train_oracle(data: Dataset, folder: Path, settings: Settings = SETTINGS) -> OracleNet:
    """Train the net and return it with averaged weights; `folder` keeps the state of an interrupted run."""
    torch.manual_seed(settings.seed)
    net = OracleNet().to(memory_format=torch.channels_last).train()
    trainer = Trainer(nn.ModuleDict({"oracle": net}), settings, folder)
    torch.manual_seed(settings.seed + trainer.step)
    source = Batches(data, settings, trainer.step)
    while trainer.step < settings.steps:
        pictures, truth = next(source)
        with autocast():
            logits = net(pictures)
        parts = losses({name: values.float() for name, values in logits.items()}, truth)
        trainer.update(parts, torch.stack(list(parts.values())).sum())
    trainer.finish()
    return net


def score_oracle(oracle: Oracle, scenes: list[Scene], images: np.ndarray) -> dict[str, float]:
    """Percent of pictures judged right, attribute by attribute (the view over faces only), and all of them at once."""
    found = oracle.judge(images)
    right = {
        name: np.array(
            [value == getattr(scene, name) for value, scene in zip(getattr(found, name), scenes, strict=True)]
        )
        for name in EXCLUSIVE
    }
    for place, name in enumerate(HEADS["accessories"]):
        truth = np.array([name in scene.accessories for scene in scenes])
        right[str(name)] = (found.accessory_probability[:, place] > 0.5) == truth
    faces = np.array([scene.category == "face" for scene in scenes])
    every = np.all([hit | ~faces if name == "view" else hit for name, hit in right.items()], axis=0)
    right["view"] = right["view"][faces]
    return {name: round(100 * float(hit.mean()), 2) for name, hit in {**right, "all at once": every}.items()}


def score_nothing(oracle: Oracle, scenes: list[Scene], images: np.ndarray, seed: int = 5) -> dict[str, float]:
    """Percent of empty and of unrecognisable pictures that the oracle calls "none", and of good renders it does too."""
    torch.manual_seed(seed)
    empties, _ = empty_scenes(500, seed)
    order = np.random.default_rng(seed).permutation(len(images))
    half = min(len(images) // 2, len(empties))
    first, second = order[:half], order[half : 2 * half]
    differing = np.array([scenes[a].kind != scenes[b].kind for a, b in zip(first, second, strict=True)])
    first, second = first[differing], second[differing]
    spoiled = unrecognisable(to_model(images[first]), to_model(images[second]), to_model(empties[: len(first)]))
    spoiled_images = spoiled.add(1).mul(127.5).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()

    def called_none(pictures: np.ndarray) -> float:
        return round(100 * float((oracle.judge(pictures).kind == NONE).mean()), 2)

    return {
        "empty": called_none(empties),
        "unrecognisable": called_none(spoiled_images),
        "good renders (wrongly)": called_none(images),
    }


ABOUT = """
Says what is on a 64x64 picture of the Toybox world: kind (30, or "none"), colour, background, accessories, view, style,
count, size and position, each by a linear head over one small residual CNN (`negguide.toybox.oracle_model`).
It is trained on renders that are slightly spoiled, not on what the autoencoder makes of them: it says what is visible, and
the column "reconstructed" measures the autoencoder as well.
The kind "none" is trained on empty scenes, equal mixes of two things, shuffled, interleaved, erased, warped and melted
pictures (`lab.train.spoil`), 9 % of each batch.

```python
from negguide.toybox.oracle import Oracle
judged = Oracle.load().judge(images)
judged.kind, judged.has("a black pet on grass").mean()
```
"""

NOTHING = """
Percent called "none". "Unrecognisable" holds mixes, shuffles, erasures, warps and melts at random, some of which a
person can still name.
"""


def export_oracle(oracle: Oracle, folder: Path, held_out: Dataset, more: Mapping[str, np.ndarray], work: Path) -> None:
    """Write the float16 weights to `folder`, measure them as they will be loaded, and write the model card.

    Args:
        held_out: renders of another random stream than those of training.
        more: other pictures of the first of its scenes, to measure on them too, by name.
        work: where the state of the training lies; without it the record in `folder` says how long it took.
    """
    oracle.save(folder)
    loaded = Oracle.load(folder)
    sets = {"held-out renders": held_out.images, **more}
    right = {name: score_oracle(loaded, held_out.scenes[: len(images)], images) for name, images in sets.items()}
    write_card(
        folder,
        "The Toybox oracle",
        ABOUT,
        {
            "parameters": sum(parameter.numel() for parameter in oracle.net.parameters()),
            "training pictures": "100,000 renders, split 1; measured on 4,000 of split 2, and reconstructions of the first 2,000",
        },
        stages_of(work, {"renders": SETTINGS}, folder),
        {
            "Accuracy": ("Percent judged right; the view over faces only.", right),
            "Nothing to see": (
                NOTHING,
                {'called "none"': score_nothing(loaded, held_out.scenes, held_out.images)},
            ),
        },
    )


def make_oracle(data: Dataset, held_out: Dataset, more: Mapping[str, np.ndarray], work: Path, folder: Path) -> Oracle:
    """The whole recipe: train and export. What `work` already holds is not made again."""
    oracle = Oracle(train_oracle(data, work / "renders").to("cpu"))
    export_oracle(oracle, folder, held_out, more, work)
    return oracle
