"""What `negguide learn` writes and `LearnedNegative` reads: a direction, a detector and an offset for layers and times."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from negguide import formats

if TYPE_CHECKING:
    from torch import Tensor

KIND = "learned negative"
"""What stands under "kind" in the file's metadata."""


class Steering(NamedTuple):
    """Of one layer, for each part of sampling: `direction` and `detector` (T, C), `offset` (T,)."""

    direction: Tensor
    detector: Tensor
    offset: Tensor

    @property
    def parts(self) -> int:
        """Into how many parts of equal length sampling is cut."""
        return len(self.offset)


@dataclass(frozen=True, eq=False)
class Learned:
    """A thing that was learnt on one denoiser; `layers` by the names of its attention layers."""

    thing: str
    instead_of: tuple[str, ...]
    family: str
    """Whose layers these are, as `RunContext.family` says it."""
    layers: Mapping[str, Steering]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file, whole or not at all."""
        from safetensors.torch import save

        about = {"kind": KIND, "thing": self.thing, "instead_of": json.dumps(self.instead_of), "family": self.family}
        tensors = {
            f"{name}:{part}": getattr(steering, part).contiguous()
            for name, steering in self.layers.items()
            for part in Steering._fields
        }
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        half = target.with_name(f".{target.name}.{os.getpid()}")
        half.write_bytes(save(tensors, {key: str(value) for key, value in formats.stamped(about).items()}))
        half.replace(target)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Learned:
        """Read what `save` wrote; `FileNotFoundError`, or `ValueError` for any other file."""
        from safetensors import SafetensorError, safe_open

        name = os.fspath(path)
        if not Path(name).is_file():
            raise FileNotFoundError(
                f"there is no file {name!r}; `negguide learn cat --anchor pet -o {name}` writes such a one"
            )
        try:
            with safe_open(name, framework="pt") as file:
                about: dict[str, Any] = dict(file.metadata() or {})
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
        except SafetensorError as error:
            raise ValueError(f"{name!r} is no safetensors file, or it is damaged: {error}") from error
        if about.pop("kind", None) != KIND:
            raise ValueError(f"{name!r} holds no learned negative; `negguide learn` writes one")
        about = formats.opened(about, ("thing", "instead_of", "family"), name)
        return cls(about["thing"], tuple(json.loads(about["instead_of"])), about["family"], _layers(tensors, name))


def _layers(tensors: Mapping[str, Tensor], file: str) -> dict[str, Steering]:
    names = dict.fromkeys(key.rpartition(":")[0] for key in tensors)
    layers = {}
    for name in names:
        try:
            steering = Steering(*(tensors[f"{name}:{part}"].float() for part in Steering._fields))
        except KeyError as error:
            raise ValueError(f"{file!r} lacks {error.args[0]!r}") from None
        if not (
            steering.direction.ndim == 2
            and steering.direction.shape == steering.detector.shape
            and steering.offset.shape == steering.direction.shape[:1]
            and all(bool(tensor.isfinite().all()) for tensor in steering)
        ):
            raise ValueError(f"{file!r} holds for {name} what does not fit together, or is not finite")
        layers[name] = steering
    return layers
