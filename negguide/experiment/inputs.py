"""What a model works with beside its prompt: LoRA, scheduler, ControlNet, IP-Adapter, and pictures to start from or to follow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negguide.types import PipelineLike
from negguide.versions import dtype_argument
from negguide.wording import first_line

if TYPE_CHECKING:
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

PICTURES = {"image": "--image", "mask": "--mask", "control_image": "--control-image", "ip_image": "--ip-image"}
"""Pictures that a call may have -> their flags on the command line."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a pipeline gets beside its prompt. Nothing of it is opened before `check`.

    Args:
        image: a picture to start from (image-to-image), or with `mask` to paint in.
        mask: what of `image` is painted anew, white.
        strength: how much of sampling is done from `image`, 0 to 1; None is the pipeline's own.
        control_image: what `controlnet` follows.
        controlnet: a ControlNet, a folder or a name of the Hub.
        ip_image: what `ip_adapter` follows.
        ip_adapter: weights of an IP-Adapter, `FOLDER/FILE.safetensors` or `org/name/subfolder/FILE.safetensors`.
        loras: (folder, file or name of the Hub, weight) of each LoRA.
        scheduler: name of a scheduler class of diffusers, such as "EulerDiscreteScheduler".
    """

    image: Path | None = None
    mask: Path | None = None
    strength: float | None = None
    control_image: Path | None = None
    controlnet: str | None = None
    ip_image: Path | None = None
    ip_adapter: str | None = None
    loras: tuple[tuple[str, float], ...] = ()
    scheduler: str | None = None

    def check(self) -> None:
        """`ValueError` for pictures that cannot be read and for parts that are useless without each other."""
        for name, flag in PICTURES.items():
            if (file := getattr(self, name)) is not None:
                try:
                    _open(file)
                except (OSError, ValueError) as error:
                    raise ValueError(f"the picture {str(file)!r} of {flag} cannot be read: {error}") from error
        for name, needed in (
            ("mask", "image"),
            ("strength", "image"),
            ("control_image", "controlnet"),
            ("controlnet", "control_image"),
            ("ip_image", "ip_adapter"),
            ("ip_adapter", "ip_image"),
        ):
            if getattr(self, name) is not None and getattr(self, needed) is None:
                raise ValueError(f"{_flag(name)} needs {_flag(needed)}")
        if self.strength is not None and not 0 < self.strength <= 1:
            raise ValueError(f"the strength is {self.strength:g}; more than 0, at most 1 is possible")

    def words(self) -> list[str]:
        """As words of the command line."""
        words: list[str] = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "loras":
                for name, weight in value:
                    words += ["--lora", name if weight == 1 else f"{name}:{weight:g}"]
            elif value is not None:
                words += [_flag(field.name), f"{value:g}" if isinstance(value, float) else str(value)]
        return words

    def prepare(self, pipe: DiffusionPipeline, dtype: object) -> Any:
        """The pipeline with its scheduler, adapters and task; `ValueError` says in one line what cannot be had."""
        import diffusers

        prepared: Any = pipe
        if self.scheduler is not None:
            prepared.scheduler = self._scheduler(prepared)
        try:
            more: dict[str, object] = {}
            if self.controlnet is not None:
                more["controlnet"] = diffusers.AutoModel.from_pretrained(
                    self.controlnet, **dtype_argument(diffusers, dtype)
                )
            if (task := self.task) is not None:
                prepared = getattr(diffusers, task).from_pipe(prepared, **more)
            for place, (name, _) in enumerate(self.loras):
                prepared.load_lora_weights(name, adapter_name=f"lora{place}")
            if self.loras:
                prepared.set_adapters([f"lora{place}" for place in range(len(self.loras))], [w for _, w in self.loras])
            if self.ip_adapter is not None:
                repository, subfolder, file = self._ip_adapter()
                prepared.load_ip_adapter(repository, subfolder=subfolder, weight_name=file)
        except Exception as error:  # diffusers, peft and the Hub raise all kinds
            raise ValueError(
                f"{' '.join(self.words())} cannot be used with {type(pipe).__name__}: {first_line(error)}"
            ) from error
        return prepared

    def _scheduler(self, pipe: PipelineLike) -> object:
        import diffusers

        kind: Any = getattr(diffusers, str(self.scheduler), None)
        if not hasattr(kind, "set_timesteps"):
            possible = sorted(scheduler.__name__ for scheduler in getattr(pipe.scheduler, "compatibles", []))
            raise ValueError(f"diffusers has no scheduler {self.scheduler!r}; possible here: {', '.join(possible)}")
        return kind.from_config(pipe.scheduler.config)

    @property
    def task(self) -> str | None:
        """The class that makes a pipeline of the same parts for these inputs; None where it stays what it is."""
        if self.mask is not None:
            return "AutoPipelineForInpainting"
        if self.image is not None:
            return "AutoPipelineForImage2Image"
        return "AutoPipelineForText2Image" if self.controlnet is not None else None

    def python(self, parameters: Mapping[str, object], size: tuple[int, int] | None) -> tuple[list[str], str]:
        """Python lines that do what `prepare` does to `pipe`, and what the call then needs beside its prompt."""
        lines: list[str] = []
        if self.scheduler is not None:
            lines += [
                f"from diffusers import {self.scheduler}",
                f"pipe.scheduler = {self.scheduler}.from_config(pipe.scheduler.config)",
            ]
        more = ""
        if self.controlnet is not None:
            lines += [
                "from diffusers import AutoModel",
                f"controlnet = AutoModel.from_pretrained({self.controlnet!r}, dtype=pipe.dtype)",
            ]
            more = ", controlnet=controlnet"
        if (task := self.task) is not None:
            lines += [f"from diffusers import {task}", f"pipe = {task}.from_pipe(pipe{more})"]
        lines += [
            f"pipe.load_lora_weights({name!r}, adapter_name='lora{place}')"
            for place, (name, _) in enumerate(self.loras)
        ]
        if self.loras:
            names = [f"lora{place}" for place in range(len(self.loras))]
            lines.append(f"pipe.set_adapters({names!r}, {[weight for _, weight in self.loras]!r})")
        if self.ip_adapter is not None:
            repository, subfolder, file = self._ip_adapter()
            lines.append(f"pipe.load_ip_adapter({repository!r}, subfolder={subfolder!r}, weight_name={file!r})")
        call = ""
        for key, name in self._keys(parameters).items():
            lines += [] if "from PIL import Image" in lines else ["from PIL import Image"]
            resized = f".resize({size})" if size is not None else ""
            mode = "L" if name == "mask" else "RGB"
            lines.append(f"{name} = Image.open({str(getattr(self, name))!r}).convert({mode!r}){resized}")
            call += f", {key}={name}"
        return lines, call + (f", strength={self.strength:g}" if self.strength is not None else "")

    def arguments(self, parameters: Mapping[str, object], size: tuple[int, int] | None) -> dict[str, object]:
        """Arguments of the call, by the names that a pipeline has for them; pictures in `size` (width, height) where it is given.

        `ValueError` for a picture that the pipeline has no argument for.
        """
        call: dict[str, object] = {}
        for key, name in self._keys(parameters).items():
            picture = _open(getattr(self, name)).convert("L" if name == "mask" else "RGB")
            call[key] = picture.resize(size) if size is not None else picture
        if self.strength is not None:
            call["strength"] = self.strength
        return call

    def _keys(self, parameters: Mapping[str, object]) -> dict[str, str]:
        """Argument of the call -> the picture of these that it takes."""
        names = {
            "image": ("image",),
            "mask": ("mask_image",),
            "control_image": ("control_image",) if self.image is not None else ("control_image", "image"),
            "ip_image": ("ip_adapter_image",),
        }
        keys = {}
        for name, possible in names.items():
            if getattr(self, name) is not None:
                key = next((key for key in possible if key in parameters), None)
                if key is None:
                    raise ValueError(f"this pipeline takes no picture by {PICTURES[name]}")
                keys[key] = name
        return keys

    def _ip_adapter(self) -> tuple[str, str, str]:
        """Repository or folder, subfolder, and file of the IP-Adapter."""
        folder, _, file = str(self.ip_adapter).rpartition("/")
        if Path(folder).is_dir():
            return folder, "", file
        first, second, *rest = [*folder.split("/"), ""]
        return f"{first}/{second}", "/".join(filter(None, rest)), file


NOTHING = Inputs()
"""A prompt, and nothing beside it."""


def _open(file: Path) -> Any:
    from negguide.methods.picture_file import read_picture

    return read_picture(file, formats=FORMATS)


def parse_loras(texts: list[str]) -> tuple[tuple[str, float], ...]:
    """`["org/name:0.8", "file.safetensors"]` -> names and weights. `ValueError` for a weight that is no number."""
    loras = []
    for text in texts:
        name, colon, weight = text.rpartition(":")
        if not colon or "/" in weight or "\\" in weight:
            loras.append((text, 1.0))
            continue
        try:
            loras.append((name, float(weight)))
        except ValueError as error:
            raise ValueError(f"the weight {weight!r} of the LoRA {name!r} is not a number; write {name}:0.8") from error
    return tuple(loras)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
