"""References: pictures or latents that results are kept away from."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from negguide.methods.tensor import is_tensor

if TYPE_CHECKING:
    from torch import Tensor

from negguide.methods.picture_file import rgb_png


class Reference:
    """A picture to keep away from: a path, a PIL picture, or clean latents of one picture.

    A path stays a path (read when a run starts); a PIL picture is kept as PNG of its RGB; latents, a float tensor shaped like
    one row of the scheduler's samples (what `output_type="latent"` returns), as float32. Immutable, comparable,
    hashable. Raises `TypeError` for anything else, `ValueError` for latents that are empty or not finite.
    """

    __slots__ = ("_data", "_kind", "_shape")
    _kind: str
    _data: bytes
    _shape: tuple[int, ...]

    def __init__(self, source: object) -> None:
        kind, data, shape = _read(source)
        object.__setattr__(self, "_kind", kind)
        object.__setattr__(self, "_data", data)
        object.__setattr__(self, "_shape", shape)

    @classmethod
    def of(cls, value: object) -> Reference:
        """A reference as it is, the dict of its JSON form, or anything that the constructor takes."""
        if isinstance(value, Reference):
            return value
        return cls.from_dict(value) if isinstance(value, Mapping) else cls(value)

    @classmethod
    def _of_png(cls, data: bytes) -> Reference:
        """A reference to what is the PNG of an RGB picture already."""
        reference = object.__new__(cls)
        object.__setattr__(reference, "_kind", "png")
        object.__setattr__(reference, "_data", data)
        object.__setattr__(reference, "_shape", ())
        return reference

    @property
    def is_latents(self) -> bool:
        """Whether it needs no encoding."""
        return self._kind == "latents"

    def picture(self) -> Any:
        """The PIL picture, RGB. `FileNotFoundError` where its path is gone, `ValueError` for latents."""
        from PIL import Image

        if self.is_latents:
            raise ValueError(f"{self!r} is no picture")
        source = self._data.decode() if self._kind == "path" else io.BytesIO(self._data)
        with Image.open(source) as image:
            return image.convert("RGB")

    def latents(self) -> Tensor:
        """The latents, float32 on the CPU, a copy. `ValueError` for pictures."""
        import torch

        if not self.is_latents:
            raise ValueError(f"{self!r} is a picture, its latents depend on the pipeline")
        return torch.frombuffer(bytearray(self._data), dtype=torch.float32).view(self._shape)

    def to_dict(self) -> dict[str, object]:
        """`{"path": text}`, `{"png": base64}` or `{"latents": base64 of float32, "shape": [...]}`."""
        if self._kind == "path":
            return {"path": self._data.decode()}
        text = base64.b64encode(self._data).decode("ascii")
        return {"latents": text, "shape": list(self._shape)} if self.is_latents else {"png": text}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Reference:
        """Inverse of `to_dict`; `ValueError` when the data is none of its forms."""
        import torch

        try:
            if set(data) == {"path"}:
                return cls(str(data["path"]))
            if set(data) == {"png"}:
                return cls._of_png(rgb_png(str(data["png"])))
            if set(data) == {"latents", "shape"}:
                raw = bytearray(base64.b64decode(data["latents"], validate=True))
                return cls(torch.frombuffer(raw, dtype=torch.float32).view(tuple(data["shape"])))
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"a reference's data cannot be read: {error}") from error
        raise ValueError(f"a reference has the keys {sorted(data)}; possible: path; png; latents and shape")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"references are immutable; make a new one instead of setting {name!r}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __reduce__(self) -> tuple[object, ...]:
        return Reference.of, (self.to_dict(),)

    def __repr__(self) -> str:
        what = repr(self._data.decode()) if self._kind == "path" else f"{self._kind}, {len(self._data)} bytes"
        return f"Reference({what})"

    @property
    def _key(self) -> tuple[str, bytes, tuple[int, ...]]:
        return self._kind, self._data, self._shape


ReferenceLike = Any
"""What stands for one reference: a path, a PIL picture, latents, a `Reference`, or the dict of its JSON form."""


def as_references(values: ReferenceLike | Sequence[ReferenceLike]) -> tuple[Reference, ...]:
    """One or many references -> a tuple. A tensor is one reference: unbind a batch of latents."""
    is_single = (
        is_tensor(values) or isinstance(values, str | os.PathLike | Reference | Mapping) or hasattr(values, "convert")
    )
    return tuple(Reference.of(value) for value in ([values] if is_single else values))


def latents_of(
    references: Sequence[Reference], encode: Callable[[Sequence[Any]], Tensor] | None, like: Tensor
) -> Tensor:
    """Clean latents (K, ...) of references, shaped like the rows of `like` (B, ...), in its dtype and on its device.

    `encode`: pictures -> latents of the running pipeline. `ValueError` for latents of another shape.
    """
    import torch

    rows: list[Tensor] = []
    for reference in references:
        if reference.is_latents:
            row = reference.latents()
            if row.shape != like.shape[1:]:
                raise ValueError(
                    f"reference latents have the shape {tuple(row.shape)}, those of this run {tuple(like.shape[1:])}: "
                    'make them with the same pipeline and size and output_type="latent", or give pictures'
                )
        elif encode is None:
            raise ValueError("this pipeline turns no picture into latents; give latents as references")
        else:
            row = encode([reference.picture()])[0]
        rows.append(row.to(like.device, like.dtype))
    return torch.stack(rows)


def _read(source: object) -> tuple[str, bytes, tuple[int, ...]]:
    if isinstance(source, str | os.PathLike):
        return "path", os.fspath(source).encode(), ()
    if hasattr(source, "convert") and hasattr(source, "getbands"):
        buffer = io.BytesIO()
        source.convert("RGB").save(buffer, format="PNG")
        return "png", buffer.getvalue(), ()
    if is_tensor(source) and source.is_floating_point():
        values = source.detach().cpu().float().contiguous()
        if not values.numel() or not bool(values.isfinite().all()):
            raise ValueError(f"reference latents {tuple(values.shape)} are empty or not finite")
        return "latents", values.numpy().tobytes(), tuple(values.shape)
    raise TypeError(
        f"a reference is {source!r:.80}; possible: a path, a PIL picture, or latents of one picture (a float tensor)"
    )
