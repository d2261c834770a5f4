"""What the watcher is trained on: batches of renders, of what the preview shows of them, and of half-formed pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor

from lab.train.common import Settings, batches, device, to_model
from lab.train.data import Dataset
from lab.train.half_formed import HalfFormed
from lab.train.oracle import UNKNOWN, labels
from lab.train.preview import show
from lab.train.quiz import Pair, Practice, about_nothing, quiz
from lab.train.spoil import empty_scenes, spoil
from negguide.toybox.oracle_model import HEADS

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

SHARES: Final = (0.42, 0.25, 0.33)
"""Of renders, of previews of clean latents, and of half-formed pictures in a batch."""
EMPTY, EMPTIES = 2, 1000
"""Pictures without a thing: in a batch, and in all."""
QUESTIONS, MORE_QUESTIONS = 2, 6
"""Asked of every picture of a batch, in the first stage and in the second."""
CLEAN_NOISE: Final = 0.2
"""Largest noise on the clean latents."""


class Batches:
    """Endless batches.

    Pictures (B, 3, 64, 64), the clean ones that they come from, the truth for `losses`, the pairs of the quiz.
    """

    def __init__(
        self,
        data: Dataset,
        latents: Tensor,
        half: HalfFormed,
        preview: AutoencoderTiny,
        settings: Settings,
        start: int,
        practice: Practice | None = None,
    ) -> None:
        seed, batch = settings.seed, settings.batch
        self.practice, self.questions = practice, QUESTIONS if practice is None else MORE_QUESTIONS
        self.data, self.latents, self.half, self.preview = data, latents, half, preview
        self.forming = show(preview, half.latents)
        self.truth = labels(data.scenes)
        self.styled = np.array([place for place, scene in enumerate(data.scenes) if scene.style != "clean"])
        self.rng = np.random.default_rng([seed, start, 11])
        self.empties, _ = empty_scenes(EMPTIES, seed)
        first, second, third = (round(share * batch) for share in SHARES)
        self.orders = (
            batches(len(data), first, seed, start),
            batches(len(data), second, seed + 1, start),
            batches(len(half.index), third, seed + 2, start),
        )

    def __next__(self) -> tuple[Tensor, Tensor, dict[str, Tensor], list[Pair]]:
        renders, clean, forming = (torch.from_numpy(next(order)) for order in self.orders)
        if self.practice is not None and self.practice.styled:
            rare = self.rng.random(len(renders)) < self.practice.styled
            renders[torch.from_numpy(rare)] = torch.from_numpy(self.rng.choice(self.styled, int(rare.sum())))
        renders = renders[torch.from_numpy(self.rng.permutation(len(renders)))]  # `spoil` mixes neighbours
        drawn = to_model(self.data.images[renders.numpy()])
        drawn[:EMPTY] = to_model(self.empties[self.rng.integers(len(self.empties), size=EMPTY)])
        latents = self.latents[clean].float()
        latents = latents + torch.rand(len(latents), 1, 1, 1) * CLEAN_NOISE * torch.randn_like(latents)
        shown = torch.cat([show(self.preview, latents), self.forming[forming]])
        index = torch.cat([renders, clean, self.half.index[forming]])
        truth = {name: values[index].clone().to(device()) for name, values in self.truth.items()}
        for name, values in truth.items():
            values[:EMPTY] = HEADS["kind"].index("none") if name == "kind" else UNKNOWN
        pairs = [pair for _ in range(EMPTY) for pair in about_nothing(self.rng, self.questions)]
        scenes = (self.data.scenes[i] for i in index[EMPTY:].tolist())
        pairs += [pair for scene in scenes for pair in quiz(scene, self.rng, self.questions, self.practice)]
        drawn, wanted = spoil(drawn), to_model(self.data.images[index[len(drawn) :].numpy()])
        return torch.cat([drawn, to_model(shown.numpy())]), torch.cat([drawn, wanted]), truth, pairs
