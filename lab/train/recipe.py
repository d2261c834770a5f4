"""The whole recipe: what is trained after what, and where the results go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lab.train.data import HELD_OUT, TRAIN, Dataset, make_dataset

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

PARTS = ("vae", "denoiser", "oracle", "clip", "mmdit", "student", "watcher")
"""In the order of their needs: the denoiser needs the autoencoder, the judges are measured on its reconstructions too, the
next two start from the bundled `sd` pipeline, and the watcher learns from that and from the bundled CLIP."""
GENERATORS = {"denoiser": "sd", "mmdit": "sd3", "student": "few-step"}
"""The bundled pipeline that a part makes."""
MEASURED = ("denoiser", "oracle", "clip", "mmdit", "student", "watcher")
"""Parts that have a model card; the autoencoder stands in the denoiser's."""
TRAINING_PICTURES, HELD_OUT_PICTURES = 100_000, 4_000


def datasets(work: Path) -> tuple[Dataset, Dataset]:
    """Training and held-out pictures, rendered into `work/data` unless they are there."""
    return (
        make_dataset(work / "data", TRAINING_PICTURES, TRAIN),
        make_dataset(work / "data", HELD_OUT_PICTURES, HELD_OUT),
    )


def load_vae(work: Path) -> AutoencoderKL:
    """The trained autoencoder of a work folder."""
    from diffusers import AutoencoderKL

    return AutoencoderKL.from_pretrained(work / "vae" / "model").eval()


def measure_part(part: str, work: Path) -> None:
    """Measure a bundled model again, on the held-out pictures, and write its model card anew.

    Raises `ValueError` for an unknown part.
    """
    from negguide.toybox.load import assets_dir, load_pipeline

    _, held_out = datasets(work)
    folder, pipe = assets_dir() / "toybox", load_pipeline(GENERATORS.get(part, "sd"))
    if part in GENERATORS:
        from lab.score import score_generator
        from lab.train.export import write_generator_card
        from negguide.toybox.oracle import Oracle

        name = GENERATORS[part]
        scores = score_generator(pipe, Oracle.load(), name)
        write_generator_card(pipe, name, folder / name, held_out, work, scores)
    elif part == "oracle":
        from lab.train.oracle import export_oracle
        from negguide.toybox.oracle import Oracle

        export_oracle(Oracle.load(), folder / "oracle", held_out, pipe.vae, work / "oracle")
    elif part == "clip":
        from lab.train.clip import export_clip
        from negguide.metrics.clip import Clip
        from negguide.toybox.clip import clip_dir

        export_clip(Clip.load(f"local-dir:{clip_dir()}").model, folder / "clip", held_out, pipe.vae, work / "clip")
    elif part == "watcher":
        from lab.train.watcher_card import export_watcher

        export_watcher(None, None, folder / "watcher", held_out, pipe, work / "watcher")
    else:
        raise ValueError(f"unknown part {part!r}; possible: {', '.join(MEASURED)}")


def train_part(part: str, work: Path, assets: Path) -> None:
    """Train one of `PARTS` in `work` (an interrupted training goes on) and export it to `assets/toybox`.

    Raises `ValueError` for an unknown part, `FileNotFoundError` when what it builds on has not been trained.
    """
    if part not in PARTS:
        raise ValueError(f"unknown part {part!r}; possible: {', '.join(PARTS)}")
    data, held_out = datasets(work)
    if part == "vae":
        from lab.train.vae import train_vae

        train_vae(data, work / "vae").save_pretrained(work / "vae" / "model")
    elif part == "denoiser":
        from lab.train.denoiser import train_denoiser
        from lab.train.export import export_generator

        export_generator(train_denoiser(data, load_vae(work), work / "denoiser"), "sd", assets, held_out, work)
    elif part == "mmdit":
        from lab.train.export import export_generator
        from lab.train.mmdit import train_mmdit
        from negguide.toybox.load import load_pipeline

        base = load_pipeline("sd")
        pipe = train_mmdit(data, base.text_encoder, base.vae, work / "mmdit")
        export_generator(pipe, "sd3", assets, held_out, work)
    elif part == "student":
        from lab.train.export import export_generator
        from lab.train.student import train_student

        export_generator(train_student(data, work / "student"), "few-step", assets, held_out, work)
    elif part == "watcher":
        from lab.train.watcher_card import make_watcher

        make_watcher(data, held_out, work / "watcher", assets / "toybox" / "watcher")
    elif part == "oracle":
        from lab.train.oracle import make_oracle

        make_oracle(data, held_out, load_vae(work), work / "oracle", assets / "toybox" / "oracle")
    else:
        from lab.train.clip import make_clip

        make_clip(data, held_out, load_vae(work), work / "clip", assets / "toybox" / "clip")
