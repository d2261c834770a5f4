"""Settings on their way: in an address, and inside a PNG."""

from __future__ import annotations

import base64
import binascii
import json
import zlib

from negguide import formats
from negguide.demo.controls import all_controls
from negguide.demo.options import Options
from negguide.demo.pictures import DROPPED
from negguide.demo.settings import Settings, make_settings
from negguide.experiment.arms import format_part, make_part
from negguide.experiment.metadata import PictureMetadata
from negguide.methods import METHODS, Negative, format_prompt
from negguide.methods.negative import as_concepts
from negguide.methods.picture_file import read_picture

KEY = "negguide"
"""Under this key a PNG of the demo holds the settings that made it."""
LINK_BYTES = 6000


def to_link(settings: Settings) -> tuple[str, bool]:
    """(value of `?s=` in an address, whether the pictures are in it): those that are too large are left out."""
    whole = _packed(settings)
    if len(whole) <= LINK_BYTES:
        return whole, True
    return _packed(settings.model_copy(update={"pictures": (), "mask": None})), False


def from_link(text: str, options: Options) -> Settings:
    """Inverse of `to_link`. `ValueError` for what is none."""
    if len(text) > 4 * LINK_BYTES:
        raise ValueError("the link is too long")
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        data = zlib.decompressobj().decompress(raw, 64 * LINK_BYTES)
        values = json.loads(data)
    except (binascii.Error, zlib.error, ValueError, RecursionError) as error:
        raise ValueError("the link holds no settings; copy it anew") from error
    if not isinstance(values, dict):
        raise ValueError("the link holds no settings; copy it anew")
    return make_settings(values, options, "the link")


def from_png(data: bytes, options: Options) -> Settings:
    """The settings inside a PNG that the demo or `negguide compare` made. `ValueError` says what is missing."""
    image = read_picture(data, max(DROPPED, options.side))
    texts = {str(key): str(value) for key, value in getattr(image, "text", {}).items()}
    if KEY in texts:
        return make_settings(_loaded(texts[KEY]), options, "this PNG")
    metadata = PictureMetadata.read(texts)
    if metadata is not None:
        return _from_compare(metadata, options)
    raise ValueError("there are no settings in this PNG; drop one that was made here or by negguide compare")


def _from_compare(metadata: PictureMetadata, options: Options) -> Settings:
    """What `negguide compare` wrote: the methods' configs with the negatives inside, and how the pipeline was called."""
    if inputs := metadata.settings.get("inputs"):
        raise ValueError(
            f"this PNG was made with {' '.join(map(str, inputs))[:200]}, which the page has not; "
            "negguide compare makes it again, with those flags"
        )
    controls = all_controls(options.watchers)
    arms, negatives = [], ""
    for config in metadata.methods:
        name = str(config.get("method"))
        if name not in METHODS:
            raise ValueError(f"the PNG was made with the method {name[:40]!r}, which is not known here")
        if name not in controls:
            raise ValueError(f"the PNG was made with {name}, which reads a file; the page has none of them")
        if concepts := config.get("negatives"):
            negatives = format_prompt("", as_concepts(concepts, Negative)).removeprefix("--no ")
        given = {
            control.field: config[control.field]
            for control in controls[name]
            if config.get(control.field, control.default) != control.default
        }
        arms.append(format_part(make_part(name, given)))
    first, together = metadata.group[0], len(metadata.group)
    in_turn = metadata.group == tuple(range(first, first + together)) and together <= options.pictures
    called = metadata.settings
    size = called.get("size")
    values: dict[str, object] = {
        "prompt": metadata.prompt,
        "negatives": negatives or ", ".join(metadata.negatives),
        "methods": ("+".join(arms),) if arms else (),
        "seed": first if in_turn else metadata.seed,
        "count": together if in_turn else 1,
        "steps": called.get("steps"),
        "guidance": called.get("guidance_scale"),
        "size": "x".join(map(str, size)) if size else None,
        "takeover": called.get("takeover", False),
    }
    values |= {"model": metadata.model} if metadata.model else {}
    values |= {"dtype": called["dtype"]} if "dtype" in called else {}
    return make_settings(values, options)


def _loaded(text: str) -> dict[str, object]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError("the settings in this PNG are damaged") from error
    if not isinstance(values, dict):
        raise ValueError("the settings in this PNG are damaged")
    return values


def packed(settings: Settings) -> str:
    """Settings as the JSON text that stands in a link and inside a PNG."""
    return json.dumps(formats.stamped(settings.model_dump(mode="json", exclude_none=True)), ensure_ascii=False)


def _packed(settings: Settings) -> str:
    text = packed(settings)
    return base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode().rstrip("=")
