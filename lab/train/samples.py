"""What a stage of the denoiser's training is shown: pictures with their captions or with the empty text, and noise."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from lab.train.common import Settings, batches
from lab.train.data import Dataset
from negguide.toybox.tokenizer import MAX_LENGTH, make_tokenizer
from negguide.toybox.world import bias
from negguide.toybox.world.scene import Scene

Draw = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""Latents (B, 8, 16, 16), noise of that shape, timesteps (B,), token ids (B, 32), weights in the loss (B,)."""


@dataclass(frozen=True)
class Phase:
    """Until which step of its stage, with which end of the noise schedule and how much offset noise.

    Offset noise: a constant of this standard deviation is added to the noise of each channel. On latents as small as
    16x16 the mean of the noisy latent otherwise says whether it is night, so that the words "at night" need not be
    learned, and are not: then the starting noise decides.
    """

    until: int
    beta_end: float = 0.012
    offset: float = 0.0


@dataclass(frozen=True)
class Stage:
    """One training. `drop`: share of the samples that are given the empty text, for classifier-free guidance.

    With `drop_open_only` they are taken from those whose caption names only a category ("a pet"). Captions that name
    the kind keep it, for their kinds are drawn more evenly than those that "a pet" stands for; with them, the empty
    text means a flatter world, and guidance exaggerates every bias.

    With `words` nothing is dropped, and all that is trained are the vectors of these words for categories ("pet", "pets"), on
    the open captions with them. The number beside a category is the logarithm of how much less its dominant kind weighs
    than its other kinds: guidance exaggerates whatever the word stands for. Everything else stays bit for bit as it was.
    """

    settings: Settings
    phases: tuple[Phase, ...]
    drop: float = 0.1
    drop_open_only: bool = False
    words: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if unknown := set(self.words) - set(bias.CATEGORIES):
            raise ValueError(f"words of no category: {sorted(unknown)}; possible: {', '.join(bias.CATEGORIES)}")

    def phase(self, step: int) -> Phase:
        """That of a step."""
        return next(phase for phase in self.phases if step < phase.until)


def names_only_category(scene: Scene, caption: str) -> bool:
    """Whether a caption leaves the kind open: "a pet on grass"."""
    return re.search(rf"\b{scene.category}s?\b", caption) is not None


@dataclass(frozen=True)
class _Pool:
    """What samples are drawn from; `texts` has a row of token ids for each picture, `empty` that of the empty text."""

    latents: Tensor
    texts: Tensor
    empty: Tensor
    open: Tensor
    stage: Stage


def samples(stage: Stage, latents: Tensor, data: Dataset, start: int = 0) -> Iterator[Draw]:
    """The samples of the steps from `start` on, endlessly; those of a step depend on nothing but its number.

    Args:
        stage: what is to be trained.
        latents: of all pictures, (N, 8, 16, 16).
        data: the training set.
        start: first step.
    """
    tokenizer = make_tokenizer()
    padding = {"padding": "max_length", "max_length": MAX_LENGTH, "truncation": True, "return_tensors": "pt"}
    pairs = zip(data.scenes, data.captions, strict=True)
    pool = _Pool(
        latents=latents,
        texts=tokenizer(data.captions, **padding).input_ids,
        empty=tokenizer("", **padding).input_ids[0],
        open=torch.tensor([names_only_category(scene, caption) for scene, caption in pairs]),
        stage=stage,
    )
    return _of_words(pool, data.scenes, start) if stage.words else _dropping(pool, start)


def _noise(like: Tensor, offset: float, generator: torch.Generator) -> Tensor:
    noise = torch.randn(like.shape, generator=generator)
    noise += offset * torch.randn(*like.shape[:2], 1, 1, generator=generator)
    return noise


def _generator(settings: Settings, step: int) -> torch.Generator:
    return torch.Generator().manual_seed(settings.seed * 1_000_003 + step)


def _dropping(pool: _Pool, step: int) -> Iterator[Draw]:
    """Each picture once; some with the empty text."""
    stage, settings = pool.stage, pool.stage.settings
    droppable = pool.open if stage.drop_open_only else torch.ones_like(pool.open)
    for drawn in batches(len(pool.open), settings.batch, settings.seed, step):
        generator = _generator(settings, step)
        chosen = torch.from_numpy(drawn)
        chosen = chosen[torch.randperm(len(chosen), generator=generator)]
        x0 = pool.latents[chosen].float()
        noise = _noise(x0, stage.phase(step).offset, generator)
        t = torch.randint(1000, (len(chosen),), generator=generator)
        dropped = droppable[chosen] & (torch.rand(len(chosen), generator=generator) < stage.drop)
        ids = torch.where(dropped[:, None], pool.empty, pool.texts[chosen])
        yield x0, noise, t, ids, torch.ones(len(chosen))
        step += 1


def _of_words(pool: _Pool, scenes: list[Scene], step: int) -> Iterator[Draw]:
    """Pictures of some categories with their open captions; kinds come evenly, and so do timesteps."""
    stage, settings = pool.stage, pool.stage.settings
    some = [place for place in pool.open.nonzero()[:, 0].tolist() if scenes[place].category in stage.words]
    kinds = np.array([scenes[place].kind for place in some])
    places, weights = torch.tensor(some), torch.tensor([_weight(kind, stage.words) for kind in kinds])
    for drawn in batches(len(some), settings.batch, settings.seed, step, groups=kinds):
        generator = _generator(settings, step)
        chosen = torch.from_numpy(drawn)
        chosen = chosen[torch.randperm(len(chosen), generator=generator)]
        x0 = pool.latents[places[chosen]].float()
        noise = _noise(x0, stage.phase(step).offset, generator)
        t = ((torch.arange(len(chosen)) + torch.rand(len(chosen), generator=generator)) * 1000 / len(chosen)).long()
        t = t[torch.randperm(len(chosen), generator=generator)].clamp(max=999)
        yield x0, noise, t, pool.texts[places[chosen]], weights[chosen]
        step += 1


def _weight(kind: str, tilts: Mapping[str, float]) -> float:
    """Weight of a picture of that kind; 1 on average over the kinds of its category."""
    category = bias.CATEGORY_OF[kind]
    dominant, share = next(iter(bias.KINDS[category].items()))
    factor = math.exp(-tilts[category])
    return (factor if kind == dominant else 1.0) / (share * factor + 1 - share)
