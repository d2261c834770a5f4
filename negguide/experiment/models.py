"""Which model is compared, and how it is loaded."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negguide.experiment.inputs import NOTHING, Inputs
from negguide.names import BundledModel, bundled_model
from negguide.versions import dtype_argument
from negguide.wording import first_line

if TYPE_CHECKING:
    from negguide.types import Pipeline

LONG = 160
DTYPES = ("auto", "float32", "float16", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Model:
    """A loaded pipeline and what should be known of it."""

    name: str
    pipe: Pipeline

    @property
    def bundled(self) -> BundledModel | None:
        """What is known of a model that a package brings along, None for any other."""
        return bundled_model(self.name)

    @property
    def more(self) -> Mapping[str, object]:
        """Further arguments of every call, for bundled models that have some."""
        return self.bundled.sampling.more if self.bundled else {}

    @property
    def device(self) -> str:
        return str(getattr(self.pipe, "_execution_device", self.pipe.device))


def dtype_name(model: Model) -> str:
    """The dtype of a model's pipeline as the command line writes it: "float32", ..."""
    return str(model.pipe.dtype).removeprefix("torch.")


def load_model(name: str, dtype: str = "auto", device: str = "auto", inputs: Inputs = NOTHING) -> Model:
    """`"toybox"` (or `"toybox/sd3"`, ...), a folder, or a model of the Hub -> `Model`, on its device and silent.

    `inputs`: its scheduler, adapters and task. `dtype`: "auto" is float16 on a GPU and float32 elsewhere. `device`:
    "auto" is the GPU when there is one. `ValueError` says in one line what cannot be had, and why.
    """
    check_model(name, dtype)
    import torch

    place = device_of(device)
    bundled = bundled_model(name)
    choice = ("float16" if place.type in ("cuda", "mps") and not bundled else "float32") if dtype == "auto" else dtype
    torch_dtype = getattr(torch, choice)
    pipe: Any = _load_bundled(bundled, torch_dtype) if bundled else _load(name, torch_dtype)
    pipe = inputs.prepare(pipe, torch_dtype)
    try:
        pipe.to(place)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"the device {device!r} cannot be used: {_short(error)}") from error
    pipe.set_progress_bar_config(disable=True)
    return Model(name, pipe)


def check_model(name: str, dtype: str = "auto") -> None:
    """What can be said of a model and a dtype before a library is imported: `ValueError` for what cannot be had."""
    if dtype not in DTYPES:
        raise ValueError(f"the dtype is {dtype!r}; possible: {', '.join(DTYPES)}")
    folder = Path(name).expanduser()
    if bundled_model(name):
        return
    if _looks_like_path(name) and not folder.is_dir():
        raise ValueError(f"no folder {name!r}; {_POSSIBLE}")
    if folder.is_dir() and not (folder / "model_index.json").is_file():
        raise ValueError(f"the folder {name!r} holds no diffusers pipeline (model_index.json is missing)")


def device_of(name: str) -> Any:
    """The torch device of a name; "auto" is the GPU when there is one. `ValueError` names the possible ones."""
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"unknown device {name!r}; possible: auto, cpu, cuda, cuda:0, mps, ...") from error


def _load_bundled(model: BundledModel, dtype: object) -> object:
    try:
        return model.load(dtype)
    except OSError as error:
        name = model.bundle.model_name(model.pipeline)
        raise ValueError(f"the bundled model {name!r} cannot be loaded: {_short(error)}") from error


def _load(name: str, dtype: object) -> object:
    import diffusers

    folder = Path(name).expanduser()
    named = dtype_argument(diffusers, dtype)
    try:
        if folder.is_dir():
            return diffusers.DiffusionPipeline.from_pretrained(str(folder), **named, **absent(folder))
        return diffusers.DiffusionPipeline.from_pretrained(name, **named)
    except Exception as error:  # diffusers, transformers and the Hub raise all kinds
        raise ValueError(f"the model {name!r} cannot be loaded: {_short(error)}; {_POSSIBLE}") from error


def absent(folder: Path) -> dict[str, None]:
    """The parts that the index of a pipeline's folder names as absent, such as SD3's T5 encoder, as arguments of loading."""
    index = json.loads((folder / "model_index.json").read_text())
    return {name: None for name, value in index.items() if value == [None, None]}


_POSSIBLE = "possible: 'toybox', 'toybox/sd3', 'toybox/few-step', a folder with a pipeline, a model of the Hub such as 'org/name'"


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.count("/") != 1


def _short(error: BaseException) -> str:
    """The first line of a message, and of a long one the first sentence."""
    line = first_line(error)
    if len(line) > LONG:
        line = re.split(r" \(|[.;] ", line)[0][:LONG]
    return line.rstrip(".")
