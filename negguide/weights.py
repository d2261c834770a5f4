"""Weights away from weights: `base - away * (tuned - base)` of safetensors files, of whole model folders, of adapters.

Trained a little on its own samples, a model gets worse in the direction in which it is already wrong; going the other way
makes it better (Neon, arXiv:2510.03597, which writes `(1 + w) theta_r - w theta_s`). The same sum removes what any further
training added.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"
UP = ("lora_B", "lora_up", "lora.up")
"""Names of the factor of an adapter that stands last: scaled, it scales what the adapter adds."""
DOWN = ("lora_A", "lora_down", "lora.down")
"""Names of the factor that stands first."""
FULL = (".diff", ".diff_b")
"""Endings of what some adapters add as it stands: no factors."""
BESIDE = (".alpha", "dora_scale", "magnitude_vector")
"""Names of what stands beside the factors."""


def merge(base: Path, tuned: Path, away: float, out: Path) -> list[Path]:
    """Write `base - away * (tuned - base)`; the files that hold merged weights.

    Args:
        base: a safetensors file, or a folder with such (a diffusers or transformers model or pipeline).
        tuned: the same after further training; or an adapter (LoRA) that was trained on the base: then `out` is that adapter
            turned round, to be loaded beside the base.
        away: how far; 0 gives the base, -1 what was tuned.
        out: a file or folder that does not exist yet.

    Computed in float32, stored in the base's dtype. Files of a folder without weights are copied from the base.

    Raises:
        ValueError: weights that do not fit each other, other formats, `out` that exists; what is needed is named.
    """
    if not math.isfinite(away):
        raise ValueError(f"away is {away}; possible: any finite number, 0.5 for instance")
    if out.exists():
        raise ValueError(f"{str(out)!r} exists already; name one that does not")
    for path in (base, tuned):
        if not path.exists():
            raise ValueError(f"there is no file or folder {str(path)!r}")
    if is_adapter(tuned):
        return _turned(tuned, away, out, with_base=is_adapter(base))
    ours, theirs = _Weights(base), _Weights(tuned)
    _check_alike(ours, theirs)
    with _written(out) as target:
        if base.is_dir():
            _copy_others(base, target)
        return [_moved(target, out, ours, theirs, file, away) for file in ours.files]


def is_adapter(path: Path) -> bool:
    """Whether a file or folder holds nothing but the factors of adapters."""
    files = _files(path)
    names = [name for file in files for name in _names(file)]
    return bool(names) and all(_part(name) for name in names)


def _part(name: str) -> str:
    """What a weight of an adapter is: "up", "down", "full", "beside", or "" for what belongs to none."""
    if name.endswith(FULL):
        return "full"
    kinds = {"up": UP, "down": DOWN, "beside": BESIDE}
    return next((kind for kind, marks in kinds.items() if any(mark in name for mark in marks)), "")


def _turned(tuned: Path, away: float, out: Path, with_base: bool) -> list[Path]:
    """The adapter whose sum with the base is away from the tuned one."""
    if with_base:
        raise ValueError(
            "both are adapters, whose ranks need not fit each other; load both and weigh them, "
            f'pipe.set_adapters(["base", "tuned"], [{1 + away:g}, {-away:g}])'
        )
    names = [name for file in _files(tuned) for name in _names(file)]
    if odd := [name for name in names if _part(name) == "beside" and not name.endswith(".alpha")]:
        raise ValueError(f"{odd[0]!r} belongs to DoRA, which is not the sum of two; merge it into the model first")

    def turned(name: str, value: Tensor) -> Tensor:
        return (value.float() * -away).to(value.dtype) if _part(name) in ("up", "full") else value

    with _written(out) as target:
        if tuned.is_dir():
            _copy_others(tuned, target)
        return [
            _rewritten(file, _place(target, tuned, file), _place(out, tuned, file), turned) for file in _files(tuned)
        ]


class _Weights:
    """The weights of a file or of all files of a folder, by folder and name: shards may be cut differently."""

    def __init__(self, root: Path) -> None:
        self.root, self.files = root, _files(root)
        self.where = {self._key(file, name): file for file in self.files for name in _names(file)}

    def _key(self, file: Path, name: str) -> tuple[str, str]:
        inside = str(file.parent.relative_to(self.root)) if self.root.is_dir() else "."
        return inside, name

    def of(self, file: Path) -> Iterator[tuple[tuple[str, str], str]]:
        """(key, name) of each weight of one file."""
        return ((self._key(file, name), name) for name in _names(file))


def _check_alike(ours: _Weights, theirs: _Weights) -> None:
    """Raise `ValueError` for weights that only one of both has, or of other shapes."""
    for given, other, says in ((ours, theirs, "what was tuned lacks"), (theirs, ours, "the base lacks")):
        if lacking := [key for key in given.where if key not in other.where]:
            named = ", ".join("/".join(key).removeprefix("./") for key in lacking[:3])
            raise ValueError(f"{says} {len(lacking)} weight(s) of the other, e.g. {named}; give two forms of one model")
    for key, file in ours.where.items():
        shapes = [_shape(path, key[1]) for path in (file, theirs.where[key])]
        if shapes[0] != shapes[1]:
            raise ValueError(f"{key[1]!r} has the shape {shapes[0]} in the base, {shapes[1]} in what was tuned")


def _moved(target: Path, out: Path, ours: _Weights, theirs: _Weights, file: Path, away: float) -> Path:
    names = {name: theirs.where[key] for key, name in ours.of(file)}

    def moved(name: str, value: Tensor) -> Tensor:
        if not value.is_floating_point():
            return value
        start = value.float()
        return (start - away * (_load(names[name], name).float() - start)).to(value.dtype)

    return _rewritten(file, _place(target, ours.root, file), _place(out, ours.root, file), moved)


def _rewritten(file: Path, target: Path, finally_at: Path, change: Callable[[str, Tensor], Tensor]) -> Path:
    """A file with every weight changed, its metadata kept."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    target.parent.mkdir(parents=True, exist_ok=True)
    with safe_open(file, "pt") as opened:
        weights: Mapping[str, Tensor] = {name: change(name, opened.get_tensor(name)) for name in opened.keys()}  # noqa: SIM118
        metadata = opened.metadata()
    save_file({name: value.contiguous() for name, value in weights.items()}, target, metadata)
    return finally_at


def _files(path: Path) -> list[Path]:
    """The safetensors files of a path. `ValueError` where there are none."""
    files = sorted(path.rglob(f"*{SUFFIX}")) if path.is_dir() else [path] if path.suffix == SUFFIX else []
    if not files:
        raise ValueError(f"{str(path)!r} has no {SUFFIX} file; save the model with safe_serialization=True")
    return files


@contextmanager
def _written(out: Path) -> Iterator[Path]:
    """A place beside `out` that becomes it when all is written, and goes away when something fails."""
    draft = out.with_name(f".{out.name}.part")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield draft
        draft.rename(out)
    finally:
        if draft.is_dir():
            shutil.rmtree(draft)
        else:
            draft.unlink(missing_ok=True)


def _copy_others(folder: Path, target: Path) -> None:
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns(f"*{SUFFIX}", ".git"))


def _place(target: Path, root: Path, file: Path) -> Path:
    return target / file.relative_to(root) if root.is_dir() else target


def _opened(file: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(file, "pt")
    except SafetensorError as error:
        raise ValueError(f"{str(file)!r} is no readable safetensors file ({error})") from error


def _names(file: Path) -> list[str]:
    with _opened(file) as opened:
        return list(opened.keys())


def _shape(file: Path, name: str) -> list[int]:
    with _opened(file) as opened:
        return list(opened.get_slice(name).get_shape())


def _load(file: Path, name: str) -> Tensor:
    with _opened(file) as opened:
        value: Tensor = opened.get_tensor(name)
        return value
