"""How the Toybox makes itself known to the library, as any other package would: see `negguide.plugins`."""

from __future__ import annotations

from collections.abc import Sequence
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
    )
)
