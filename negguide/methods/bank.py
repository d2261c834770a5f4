"""A bank of pictures to keep away from: the ones most like what is forming are picked by themselves."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negguide.names import find_bundle

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


@dataclasses.dataclass(frozen=True)
class Bank:
    """Pictures of a folder (PNG, JPEG, WebP, BMP; not its subfolders) with their CLIP embeddings cached beside them.

    `clip`: who tells what is alike; the name of an open_clip model ("ViT-B-32/laion2b_s34b_b79k", "local-dir:<folder>"),
    "toybox" for the bundled one, which knows Toybox pictures only, or a loaded `negguide.metrics.clip.Clip` (then the
    bank has no JSON form). `count`: how many are picked for each prompt. `every`: at how many open steps one choice lasts;
    1 follows the picture closely, and costs a VAE decoding and an embedding a step.

    The cache is `.negguide-<clip>.safetensors` in the folder, made anew for pictures whose name, size or time changed; a
    folder that cannot be written to works without. Raises `FileNotFoundError` if the folder holds no picture.
    """

    folder: str
    clip: object
    count: int = 1
    every: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", os.fspath(self.folder))
        if not isinstance(self.clip, str) and not hasattr(self.clip, "images"):
            raise TypeError(
                f"Bank's clip is {self.clip!r}; possible: the name of an open_clip model such as "
                "'ViT-B-32/laion2b_s34b_b79k', 'toybox' for Toybox pictures, or a negguide.metrics.clip.Clip"
            )
        for name in ("count", "every"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"Bank's {name} is {value!r}; a whole number of at least 1 is needed")

    def to_dict(self) -> dict[str, object]:
        """Its JSON form; `TypeError` where `clip` is no name."""
        if not isinstance(self.clip, str):
            raise TypeError(f"a Bank with a loaded {type(self.clip).__name__} has no JSON form; give its clip by name")
        return {"folder": self.folder, "clip": self.clip, "count": self.count, "every": self.every}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Bank:
        """Inverse of `to_dict`."""
        return cls(**data)

    def paths(self) -> list[Path]:
        """Its pictures, by name."""
        files = sorted(path for path in Path(self.folder).glob("*") if path.suffix.lower() in SUFFIXES)
        if not files:
            raise FileNotFoundError(f"the bank {self.folder!r} holds no picture ({', '.join(SUFFIXES)})")
        return files

    def open(self) -> OpenBank:
        """Load the CLIP and the embeddings, computing those that are not cached."""
        clip = _loaded(self.clip) if isinstance(self.clip, str) else self.clip
        paths = self.paths()
        return OpenBank(clip, paths, _embeddings(Path(self.folder), paths, clip))


@dataclasses.dataclass(frozen=True)
class OpenBank:
    """A bank in use: `embeddings` (M, C), rows of length 1, one per path."""

    clip: Any
    paths: Sequence[Path]
    embeddings: Tensor

    def hardest(self, pictures: Sequence[object], groups: Sequence[Sequence[int]], count: int) -> list[list[int]]:
        """For each group of pictures the `count` entries most similar to them on the mean, most similar first."""
        similarity = self.clip.images(pictures).float().cpu() @ self.embeddings.T
        count = min(count, len(self.paths))
        return [similarity[list(group)].mean(0).topk(count).indices.tolist() for group in groups]

    def picture(self, index: int) -> Any:
        """The PIL picture, RGB."""
        return _read(self.paths[index])


def _read(path: Path) -> object:
    from PIL import Image

    with Image.open(path) as image:
        return image.convert("RGB")


def _loaded(name: str) -> object:
    from negguide.metrics.clip import Clip

    bundle = find_bundle(name)
    if bundle is not None and bundle.clip is not None:
        return bundle.clip()
    return Clip.load(name)


def _embeddings(folder: Path, paths: Sequence[Path], clip: Any) -> Tensor:
    """(M, C) from the cache, and from the CLIP for what is new; the cache is brought up to date."""
    import torch
    from safetensors.torch import load_file, save_file

    cache = folder / f".negguide-{re.sub(r'[^A-Za-z0-9.-]+', '_', str(getattr(clip, 'name', 'clip')))}.safetensors"
    keys = [_key(path) for path in paths]
    try:
        cached = load_file(cache) if cache.is_file() else {}
    except Exception:  # a cache that cannot be read is as good as none
        cached = {}
    new = [at for at, key in enumerate(keys) if key not in cached]
    for start in range(0, len(new), 64):
        part = new[start : start + 64]
        rows = clip.images([_read(paths[at]) for at in part]).float().cpu()
        cached |= {keys[at]: row.clone() for at, row in zip(part, rows, strict=True)}
    kept = {key: cached[key].contiguous() for key in keys}
    if new or len(kept) != len(cached):
        partial = cache.with_name(f"{cache.name}.{os.getpid()}")
        try:
            save_file(kept, partial)
            partial.replace(cache)
        except OSError:
            partial.unlink(missing_ok=True)
    return torch.stack([kept[key] for key in keys])


def _key(path: Path) -> str:
    about = path.stat()
    return hashlib.sha256(f"{path.name}\n{about.st_size}\n{about.st_mtime_ns}".encode()).hexdigest()
