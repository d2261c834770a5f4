"""The model at hand: one at a time in memory; one that cannot be had leaves the one before in its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from negguide.demo.options import Options
from negguide.experiment.models import Model, device_of, load_model
from negguide.names import bundled_model
from negguide.wording import first_line

Spec = tuple[str, str, str]
"""Name, dtype, offload."""


def free_memory() -> None:
    """Give back what nobody holds any more; the library that knows how is imported when it is needed."""
    from negguide.engine.memory import free

    free()


class Shelf:
    """Holds the loaded model. Only the worker of `Turns` may call `get`."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._spec: Spec | None = None
        self._model: Model | None = None

    @property
    def name(self) -> str | None:
        """The name of the model in memory."""
        return self._spec[0] if self._spec else None

    def get(self, spec: Spec, tell: Callable[[str], None] = lambda words: None) -> Model:
        """The model, loaded if it is another than the last one; `tell` hears what is going on.

        `ValueError` says why it cannot be had; then the model before is there again.
        """
        if self._model is not None and spec == self._spec:
            return self._model
        name, _, offload = spec
        self.options.check_model(name)
        tell(f"Loading {name} …")
        self._fetch(name)
        self._check_offload(offload)
        before, self._spec, self._model = self._spec, None, None
        free_memory()
        try:
            self._model, self._spec = self._load(spec), spec
        except Exception as error:
            free_memory()
            if before is not None:
                self._model, self._spec = self._load(before), before
            if isinstance(error, ValueError):
                raise
            raise ValueError(f"the model {name!r} cannot be loaded: {' '.join(str(error).split())[:200]}") from error
        return self._model

    def _fetch(self, name: str) -> None:
        """See that everything is here before the model at hand is given up; only safetensors are taken."""
        if bundled_model(name):
            return
        folder = Path(name).expanduser()
        if not folder.is_dir():
            from diffusers.pipelines.pipeline_utils import DiffusionPipeline

            try:
                folder = Path(DiffusionPipeline.download(name, use_safetensors=True))
            except Exception as error:  # the Hub raises all kinds
                raise ValueError(f"the model {name!r} cannot be fetched: {first_line(error)[:200]}") from error
        if not (folder / "model_index.json").is_file():
            raise ValueError(f"{name!r} is no diffusers pipeline (model_index.json is missing)")
        pickles = [
            file.name
            for file in folder.rglob("*.bin")
            if not any(file.parent.glob("*.safetensors")) and file.name != "training_args.bin"
        ]
        if pickles:
            raise ValueError(
                f"the weights of {name!r} are pickles ({pickles[0]}), which can run code; only safetensors are loaded"
            )
        if code := [file.name for file in folder.rglob("*.py")]:
            raise ValueError(f"the model {name!r} brings code of its own ({code[0]}), which is not run here")

    def _check_offload(self, offload: str) -> None:
        if offload != "none" and device_of(self.options.device).type == "cpu":
            raise ValueError("offload moves parts of the model off the GPU, and there is none here; choose 'none'")

    def _load(self, spec: Spec) -> Model:
        name, dtype, offload = spec
        if offload == "none":
            return load_model(name, dtype, self.options.device)
        device = device_of(self.options.device)
        if dtype == "auto" and not bundled_model(name):
            dtype = "float16"
        model = load_model(name, dtype, "cpu")
        pipe = model.pipe
        if offload == "model":
            pipe.enable_model_cpu_offload(device=device)
        else:
            pipe.enable_sequential_cpu_offload(device=device)
        return model
