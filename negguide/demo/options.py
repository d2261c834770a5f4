"""How a demo server is set up: what it may load, how much one person may ask of it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

from negguide.names import DEFAULT, bundled_model, bundled_names

HUB = "hub"
"""Among the allowed models: any model of the Hub by its name."""

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}")


@dataclasses.dataclass(frozen=True)
class Options:
    """What the person who starts the server decides.

    `allow_models`: beside the bundled ones; names of the Hub ("org/name"), folders (with a pipeline in them, or with
    folders of pipelines), or "hub" for any name. `device`: as in `negguide compare`. `clip`: open_clip model that judges pictures
    of models that are not bundled. `preview`: tiny autoencoder (hub id or folder) for live previews of those; without, their own
    VAE looks at smaller latents. `watchers`: who may look at forming pictures; a name of `negguide.watchers.as_watcher`.

    `waiting`: requests that may wait in all, `each` of them from one person. `pictures`, `methods`, `steps`, `side`: most per
    request, the last in pixels. `upload`: bytes of a file. `seconds`: longest run of one request. `hosts`: names the server may be
    called by beside addresses, localhost and the machine's own name; "*" for any (`negguide.demo.guard`). `first`:
    settings of the first screen (`negguide.demo.settings.Settings`), where they are others than the usual ones.
    """

    model: str = DEFAULT
    allow_models: tuple[str, ...] = ()
    device: str = "auto"
    clip: str | None = None
    preview: str | None = None
    watchers: tuple[str, ...] = ("toybox",)
    waiting: int = 60
    each: int = 24
    pictures: int = 8
    methods: int = 6
    steps: int = 100
    side: int = 1536
    upload: int = 8 * 2**20
    seconds: float = 600.0
    hosts: tuple[str, ...] = ()
    first: Mapping[str, object] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("waiting", "each", "pictures", "methods", "steps", "side", "upload"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; at least 1 is needed")
        for name in self.allow_models:
            if name != HUB and not Path(name).expanduser().is_dir() and not _HUB_NAME.fullmatch(name):
                raise ValueError(
                    f"{name!r} is no folder and no name of the Hub; --allow-models takes org/name, a folder, or hub (any name)"
                )
        self.check_model(self.model)
        if not self.watchers:
            raise ValueError("at least one watcher is needed, e.g. 'toybox'")

    def models(self) -> list[str]:
        """What the page offers, the model of the start first."""
        bundled = [name for name in bundled_names() if (model := bundled_model(name)) and model.folder.is_dir()]
        others: list[str] = []
        for name in self.allow_models:
            folder = Path(name).expanduser()
            if folder.is_dir():
                others += [
                    str(path) for path in (folder, *sorted(folder.iterdir())) if (path / "model_index.json").is_file()
                ]
            elif name != HUB:
                others.append(name)
        return list(dict.fromkeys([self.model, *bundled, *others]))

    def check_model(self, name: str) -> str:
        """The name of a model that may be loaded. `ValueError` says which ones may; nothing is read or fetched for it."""
        bundled = bundled_names()
        if name in bundled or name in self.allow_models:
            return name
        strange = "\0" in name or Path(name).exists() or ".." in name or name.startswith(f"{DEFAULT}/")
        if HUB in self.allow_models and _HUB_NAME.fullmatch(name) and not strange:
            return name
        folders = [Path(path).expanduser().resolve() for path in self.allow_models if Path(path).expanduser().is_dir()]
        if folders and name and "\0" not in name:
            wanted = Path(name).expanduser().resolve()
            if any(wanted.is_relative_to(folder) for folder in folders) and (wanted / "model_index.json").is_file():
                return name
        more = "" if self.allow_models else "; others only where the demo was started with --allow-models"
        raise ValueError(
            f"the model {name[:80]!r} is not offered here; possible: {', '.join([*bundled, *self.allow_models])}{more}"
        )
