"""The training set: pictures, scenes and captions, rendered once into memory-mapped files."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from negguide.toybox.world.captions import tags
from negguide.toybox.world.render import render
from negguide.toybox.world.sample import sample
from negguide.toybox.world.scene import Scene

SIZE = 64
SHARD = 1000
TAG_SHARE = 0.12
"""Share of captions that are a bare list of tags ("cat, hat"), the form in which people write negatives."""

TRAINING_PICTURES, HELD_OUT_PICTURES = 100_000, 4_000

TRAIN, HELD_OUT, BENCH = 1, 2, 3
"""First word of every random stream: the splits never share one."""


@dataclass(frozen=True)
class Dataset:
    """`images` (N, size, size, 3) uint8, memory-mapped; `scenes` and `captions` of the same order."""

    images: np.ndarray
    scenes: list[Scene]
    captions: list[str]

    def __len__(self) -> int:
        return len(self.scenes)


def pairs(split: int, shard: int, count: int = SHARD) -> list[tuple[Scene, str]]:
    """The scenes and captions of one shard, a pure function of its numbers."""
    rng = np.random.default_rng([split, shard])
    drawn = []
    for _ in range(count):
        scene, text = sample(rng)
        if rng.random() < TAG_SHARE:
            text = tags(scene, rng)
        drawn.append((scene, text))
    return drawn


def _render_shard(split: int, shard: int, size: int) -> tuple[np.ndarray, list[dict], list[str]]:
    drawn = pairs(split, shard)
    images = np.stack([render(scene, size) for scene, _ in drawn])
    return images, [scene.to_dict() for scene, _ in drawn], [text for _, text in drawn]


def make_dataset(folder: Path, count: int, split: int, workers: int = 2, size: int = SIZE) -> Dataset:
    """Render `count` pictures (a multiple of 1000) into `folder`; what is already there is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{split}-{count}" if size == SIZE else f"{split}-{count}-{size}"
    done, images_file = folder / f"{name}.jsonl", folder / f"{name}.npy"
    if not done.exists():
        images = np.lib.format.open_memmap(images_file, "w+", np.uint8, (count, size, size, 3))
        lines: list[str] = []
        shards = range(count // SHARD)
        with ProcessPoolExecutor(workers) as pool:
            results = pool.map(_render_shard, [split] * len(shards), shards, [size] * len(shards))
            for shard, (rendered, scenes, texts) in zip(shards, results, strict=True):
                images[shard * SHARD : (shard + 1) * SHARD] = rendered
                lines += [json.dumps([scene, text]) for scene, text in zip(scenes, texts, strict=True)]
        images.flush()
        done.write_text("\n".join(lines) + "\n")
    rows = [json.loads(line) for line in done.read_text().splitlines()]
    return Dataset(
        images=np.load(images_file, mmap_mode="r"),
        scenes=[Scene.from_dict(scene) for scene, _ in rows],
        captions=[text for _, text in rows],
    )
