"""How the Toybox makes itself known to the library, as any other package would: see `negguide.plugins`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negguide.names import Bundle, register_bundle
from negguide.toybox.load import MODEL, PIPELINES, pipeline_dir

if TYPE_CHECKING:
    from negguide.experiment.judges import Judge
    from negguide.metrics.clip import Clip


def _load(pipeline: str, dtype: Any) -> Any:
    from negguide.toybox.load import load_pipeline

    if not (folder := pipeline_dir(pipeline)).is_dir():
        raise FileNotFoundError(f"the folder {folder} is missing")
    return load_pipeline(pipeline, dtype)


def _python(pipeline: str) -> Sequence[str]:
    chosen = "" if pipeline == next(iter(PIPELINES)) else repr(pipeline)
    return ["from negguide.toybox.load import load_pipeline", "", f"pipe = load_pipeline({chosen})"]


def _clip() -> Clip:
    from negguide.metrics.clip import Clip
    from negguide.toybox.clip import load_clip

    return Clip(MODEL, *load_clip())


def _watcher() -> Path:
    from negguide.toybox.watcher import watcher_dir

    return watcher_dir()


def _vocabulary() -> Sequence[tuple[str, tuple[str, ...]]]:
    from negguide.toybox.world import bias

    return (*((name, tuple(kinds)) for name, kinds in bias.KINDS.items()), ("colour", tuple(bias.COLOURS)))


def _words() -> Mapping[str, Sequence[str]]:
    from negguide.toybox.world import bias

    kinds = {f"{category}s": (category, *of) for category, of in bias.KINDS.items()}
    accessories = {"wearing": tuple(bias.ACCESSORIES), "colours": bias.COLOURS, "places": tuple(bias.BACKGROUNDS)}
    return {**kinds, **accessories, "pictures": tuple(style for style in bias.STYLES if style != "clean")}


def _strange(text: str) -> Sequence[str]:
    from negguide.toybox.world.captions import vocabulary, words

    vocabulary_words = set(vocabulary())
    return [word for word in words(text) if word not in vocabulary_words]


def _judges() -> Sequence[Judge]:
    from negguide.toybox.judge import OracleJudge
    from negguide.toybox.oracle import Oracle

    try:
        return [OracleJudge(Oracle.load())]
    except FileNotFoundError as error:
        raise ValueError(f"the Toybox oracle is missing ({error}); leave the judging out with --no-judge") from error


register_bundle(
    Bundle(
        name=MODEL,
        pipelines=PIPELINES,
        folder=pipeline_dir,
        load=_load,
        python=_python,
        clip=_clip,
        watcher=_watcher,
        vocabulary=_vocabulary,
        judges=_judges,
        about="Toybox: small cartoons (128x128) of pets, faces, fruits, plants, vehicles and buildings, drawn by a model that "
        "knows only these words. It is here to see what a negative does, not to make art.",
        words=_words,
        strange=_strange,
    )
)
