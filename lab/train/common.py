"""What every training loop shares: settings, averaged weights, checkpoints that resume, and a log."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


@dataclass
class Settings:
    """How long (`steps`, `batch`) and how fast (`lr`, with warm-up and cosine decay to `final_lr` of it)."""

    steps: int
    batch: int
    lr: float
    seed: int = 0
    warmup: int = 200
    ema: float = 0.999
    weight_decay: float = 0.01
    save_every_s: float = 120.0
    final_lr: float = 0.05
    decay_from: float = 0.0
    """Where the decay begins, as a fraction of `steps`; with 0.7 a run may still be made longer before that point."""


def device() -> torch.device:
    """Where training runs: the GPU when there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast() -> torch.autocast:
    """bf16 autocast, about 1.5 times faster than float32 on recent CPUs."""
    return torch.autocast(device().type, torch.bfloat16)


def attention_kernels() -> AbstractContextManager[None]:
    """On CPUs the plain kernel: for 65 to 96 tokens the flash kernel's backward alone takes a quarter of a step."""
    return sdpa_kernel(SDPBackend.MATH) if device().type == "cpu" else nullcontext()


def to_model(images: np.ndarray) -> Tensor:
    """Pictures (B, H, W, 3) uint8 -> (B, 3, H, W) float32 in [-1, 1], on the training device."""
    pictures = torch.from_numpy(np.array(images)).to(device())
    return pictures.permute(0, 3, 1, 2).float().div_(127.5).sub_(1).contiguous()


WORKERS = 2
"""Threads that each take an equal share of a batch; on CPUs faster than the threads inside the operators."""


Loss = Callable[..., tuple[Tensor, dict[str, Tensor]]]
"""From a share of the batch to the loss that is minimised and the figures to log, scalars each."""


class Shares:
    """Splits a batch among `WORKERS` threads and averages their losses and gradients; one share where there is a GPU.

    Args:
        loss: of a share of the batch.
        parameters: what the gradients are taken of.
    """

    def __init__(self, loss: Loss, parameters: Sequence[nn.Parameter]):
        self._loss, self._parameters = loss, parameters
        self._count = 1 if torch.cuda.is_available() else WORKERS
        self._threads = ThreadPoolExecutor(self._count)

    def _share(self, *batch: Tensor) -> tuple[dict[str, Tensor], tuple[Tensor | None, ...]]:
        loss, figures = self._loss(*batch)
        slopes = torch.autograd.grad(loss, self._parameters, allow_unused=True)
        return {name: value.detach() for name, value in figures.items()}, slopes

    def __call__(self, *batch: Tensor) -> dict[str, Tensor]:
        """Leave the mean gradients in the parameters and return the mean figures."""
        results = list(self._threads.map(self._share, *(part.chunk(self._count) for part in batch)))
        for parameter, *shares in zip(self._parameters, *(slopes for _, slopes in results), strict=True):
            parameter.grad = None if shares[0] is None else torch.stack(shares).mean(0)
        return {name: torch.stack([figures[name] for figures, _ in results]).mean() for name in results[0][0]}


def batches(
    count: int, batch: int, seed: int, start: int = 0, groups: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """Endless batches of sorted indices, epoch by epoch in a seeded order, from step `start` on (so that runs resume).

    With `groups` (count,), a label for each index, the labels come evenly: every stretch of an epoch has each of them in
    the proportions of the whole.
    """
    per_epoch = count // batch
    step = start
    while True:
        epoch = step // per_epoch
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(count)
        if groups is not None:
            order = _interleaved(order, groups, rng)
        for place in range(step % per_epoch, per_epoch):
            yield np.sort(order[place * batch : (place + 1) * batch])
        step = (epoch + 1) * per_epoch


def _interleaved(order: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`order` (N,) rearranged so that the members of each group lie at equal distances, from a random start."""
    times = np.empty(len(order))
    for group in np.unique(groups):
        members = groups[order] == group
        size = int(members.sum())
        times[members] = (np.arange(size) + rng.random()) / size
    return order[np.argsort(times, kind="stable")]


@dataclass
class Trainer:
    """One optimiser over some modules, with warm-up and cosine decay, averaged weights, resuming checkpoints."""

    modules: nn.ModuleDict
    settings: Settings
    folder: Path
    step: int = 0
    seconds: float = 0.0
    average: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.modules.to(device())
        self.parameters = [parameter for parameter in self.modules.parameters() if parameter.requires_grad]
        s = self.settings
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=s.lr, weight_decay=s.weight_decay, betas=(0.9, 0.99), fused=True
        )
        self.average = {name: value.detach().clone() for name, value in self.modules.state_dict().items()}
        self._started = self._saved = time.monotonic()
        self._losses: dict[str, Tensor] = {}
        if (self.folder / "state.pt").exists():
            self._load()

    def _load(self) -> None:
        state = torch.load(self.folder / "state.pt", map_location=device(), weights_only=True)
        self.modules.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average, self.step, self.seconds = state["average"], state["step"], state["seconds"]
        print(f"resumed {self.folder.name} at step {self.step}", flush=True)

    def save(self) -> None:
        now = time.monotonic()
        self.seconds += now - self._started
        self._started = self._saved = now
        state = {
            "model": self.modules.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "step": self.step,
            "seconds": self.seconds,
        }
        torch.save(state, self.folder / "state.tmp")
        os.replace(self.folder / "state.tmp", self.folder / "state.pt")

    def rate(self) -> float:
        """Learning rate of this step."""
        s = self.settings
        if self.step < s.warmup:
            return s.lr * (self.step + 1) / s.warmup
        start = max(s.warmup, s.decay_from * s.steps)
        done = min(1.0, max(0.0, (self.step - start) / max(1, s.steps - start)))
        return s.lr * (s.final_lr + (1 - s.final_lr) * 0.5 * (1 + math.cos(math.pi * done)))

    def update(self, losses: dict[str, Tensor], total: Tensor) -> None:
        """Backward, then `apply`."""
        total.backward()
        self.apply(losses)

    def apply(self, losses: dict[str, Tensor]) -> None:
        """Clip the gradients that are there, step, average, log and save now and then."""
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            state = self.modules.state_dict()
            floats = [name for name, value in state.items() if value.is_floating_point()]
            torch._foreach_lerp_([self.average[name] for name in floats], [state[name] for name in floats], 1 - decay)
            for name in state.keys() - floats:
                self.average[name].copy_(state[name])
            for name, value in losses.items():
                self._losses[name] = torch.lerp(self._losses.get(name, value.detach()), value.detach(), 0.02)
        if self.step % 100 == 0:
            self.log({"step": self.step, **{name: round(value.item(), 5) for name, value in self._losses.items()}})
        if time.monotonic() - self._saved > self.settings.save_every_s:
            self.save()

    def log(self, row: dict[str, Any]) -> None:
        seconds = self.seconds + time.monotonic() - self._started
        line = json.dumps({**row, "seconds": round(seconds)})
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(line + "\n")
        print(line, flush=True)

    def finish(self) -> None:
        """Save, and leave the averaged weights in the modules."""
        self.save()
        self.modules.load_state_dict(self.average)
        self.modules.eval()
