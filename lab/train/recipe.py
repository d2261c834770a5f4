"""The whole recipe: what is trained after what, and where the results go."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from lab.train.data import HELD_OUT, HELD_OUT_PICTURES, SIZE, TRAIN, TRAINING_PICTURES, Dataset, make_dataset

if TYPE_CHECKING:
    import numpy as np
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

PARTS = ("vae", "denoiser", "oracle", "clip", "mmdit", "student", "words", "watcher", "large", "crisp", "kinds")
"""In the order of their needs: the denoiser needs the autoencoder, the judges are measured on its reconstructions too, the
next three start from the bundled `sd` pipeline, the watcher learns from that and from the bundled CLIP, then comes the
autoencoder that all three carry, then its decoder on what they draw, and at last more words of the later two."""
GENERATORS = {"denoiser": "sd", "mmdit": "sd3", "student": "few-step"}
"""The bundled pipeline that a part makes."""
MEASURED = ("denoiser", "oracle", "clip", "mmdit", "student", "watcher")
"""Parts that have a model card; the autoencoder stands in the denoiser's."""


def datasets(work: Path) -> tuple[Dataset, Dataset]:
    """Training and held-out pictures, rendered into `work/data` unless they are there."""
    return (
        make_dataset(work / "data", TRAINING_PICTURES, TRAIN),
        make_dataset(work / "data", HELD_OUT_PICTURES, HELD_OUT),
    )


def judged_pictures(work: Path, held_out: Dataset) -> dict[str, np.ndarray]:
    """What the judges are measured on beside renders of 64x64: renders of the bundled pipelines' size, and those that
    their autoencoder draws.
    """
    from lab.train.vae import RECONSTRUCTED, reconstruct
    from negguide.toybox.load import load_pipeline

    vae = load_pipeline("sd").vae
    size = vae.config.sample_size
    if size == SIZE:
        return {"reconstructed": reconstruct(vae, held_out.images[:RECONSTRUCTED])}
    large = make_dataset(work / "data", HELD_OUT_PICTURES, HELD_OUT, size=size).images
    return {f"at {size}x{size}": large, "reconstructed": reconstruct(vae, large[:RECONSTRUCTED])}


def train_large(work: Path) -> AutoencoderKL:
    """The autoencoder of 128x128 that the bundled pipelines carry, trained or resumed."""
    from lab.train import enlarge
    from lab.train.vae import load_vae
    from negguide.toybox.load import load_pipeline

    workers = os.cpu_count() or 2
    small, large = (
        make_dataset(work / "data", enlarge.PICTURES, TRAIN, workers, size) for size in (SIZE, enlarge.SIZE)
    )
    return enlarge.train_large_vae(load_vae(work), load_pipeline("sd"), small, large, work / "large")


def train_words(work: Path, assets: Path) -> None:
    """What "a pet" and "a face" stand for in the bundled `sd3` and `few-step`; see `lab.train.words`."""
    from lab.train import enlarge, words
    from lab.train.denoiser import latents_of
    from lab.train.export import export_pipeline
    from lab.train.vae import load_vae
    from negguide.toybox.load import load_pipeline

    flow, student = load_pipeline("sd3"), load_pipeline("few-step")
    data, folder = make_dataset(work / "data", enlarge.PICTURES, TRAIN), work / "mmdit" / "words"
    folder.mkdir(parents=True, exist_ok=True)
    latents = latents_of(load_vae(work), data, folder / "latents.npy")
    words.train_flow_words(flow, latents, data, folder)
    words.follow(student.text_encoder, load_pipeline("sd").text_encoder, words.FOLLOWING)
    for name, pipe in (("sd3", flow), ("few-step", student)):
        export_pipeline(pipe.to("cpu"), assets / "toybox" / name)
    for part in ("mmdit", "student"):
        measure_part(part, work)


def train_kinds(work: Path, assets: Path) -> None:
    """What "a fruit", "a vehicle" and "a plant" stand for in the bundled `sd3` and `few-step`; see `lab.train.words`."""
    from lab.train import enlarge, words
    from lab.train.denoiser import latents_of
    from lab.train.export import export_pipeline
    from negguide.toybox.load import load_pipeline

    flow, student = load_pipeline("sd3"), load_pipeline("few-step")
    renders = make_dataset(work / "data", enlarge.PICTURES, TRAIN, os.cpu_count() or 2, enlarge.SIZE)
    data, folder = words.naming(renders, words.FLOW_LATER.words), work / "mmdit" / "kinds"
    folder.mkdir(parents=True, exist_ok=True)
    latents = latents_of(load_pipeline("sd").vae, data, folder / "latents.npy")
    words.train_flow_words(flow, latents, data, folder, words.FLOW_LATER)
    words.away(student.text_encoder, words.AWAY)
    for name, pipe in (("sd3", flow), ("few-step", student)):
        export_pipeline(pipe.to("cpu"), assets / "toybox" / name)
    for part in ("mmdit", "student"):
        measure_part(part, work)


def measure_part(part: str, work: Path) -> None:
    """Measure a bundled model again, on the held-out pictures, and write its model card anew.

    Raises `ValueError` for an unknown part.
    """
    from negguide.toybox.load import assets_dir, load_pipeline

    held_out = make_dataset(work / "data", HELD_OUT_PICTURES, HELD_OUT)
    folder, pipe = assets_dir() / "toybox", load_pipeline(GENERATORS.get(part, "sd"))
    if part in GENERATORS:
        from lab.score import score_generator
        from lab.train.common import device
        from lab.train.export import write_generator_card
        from negguide.toybox.oracle import Oracle

        name = GENERATORS[part]
        scores = score_generator(pipe.to(device()), Oracle.load(), name)
        write_generator_card(pipe, name, folder / name, work, scores)
    elif part == "oracle":
        from lab.train.oracle import export_oracle
        from negguide.toybox.oracle import Oracle

        export_oracle(Oracle.load(), folder / "oracle", held_out, judged_pictures(work, held_out), work / "oracle")
    elif part == "clip":
        from lab.train.clip import export_clip
        from negguide.metrics.clip import Clip
        from negguide.toybox.clip import clip_dir

        model = Clip.load(f"local-dir:{clip_dir()}").model
        export_clip(model, folder / "clip", held_out, judged_pictures(work, held_out), work / "clip")
    elif part == "watcher":
        from lab.train.watcher_card import export_watcher

        more = judged_pictures(work, held_out)
        export_watcher(None, None, folder / "watcher", held_out, more, pipe, work / "watcher")
    else:
        raise ValueError(f"unknown part {part!r}; possible: {', '.join(MEASURED)}")


def train_part(part: str, work: Path, assets: Path) -> None:
    """Train one of `PARTS` in `work` (an interrupted training goes on) and export it to `assets/toybox`.

    Raises `ValueError` for an unknown part, `FileNotFoundError` when what it builds on has not been trained.
    """
    if part not in PARTS:
        raise ValueError(f"unknown part {part!r}; possible: {', '.join(PARTS)}")
    from lab.train.vae import load_vae

    data, held_out = datasets(work)
    if part == "vae":
        from lab.train.vae import train_vae

        train_vae(data, work / "vae").save_pretrained(work / "vae" / "model")
    elif part == "denoiser":
        from lab.train.denoiser import train_denoiser
        from lab.train.export import export_generator

        export_generator(train_denoiser(data, load_vae(work), work / "denoiser"), "sd", assets, work)
    elif part == "mmdit":
        from lab.train.export import export_generator
        from lab.train.mmdit import train_mmdit
        from negguide.toybox.load import load_pipeline

        base = load_pipeline("sd")
        pipe = train_mmdit(data, base.text_encoder, load_vae(work), work / "mmdit")
        export_generator(pipe, "sd3", assets, work)
    elif part == "student":
        from lab.train.export import export_generator
        from lab.train.student import train_student

        export_generator(train_student(data, work / "student"), "few-step", assets, work)
    elif part == "watcher":
        from lab.train.watcher_card import make_watcher

        more, folder = judged_pictures(work, held_out), assets / "toybox" / "watcher"
        make_watcher(data, held_out, more, load_vae(work), work / "watcher", folder)
    elif part == "words":
        train_words(work, assets)
    elif part == "kinds":
        train_kinds(work, assets)
    elif part in ("large", "crisp"):
        from lab.train.crisp import make_crisp
        from lab.train.export import install_autoencoder

        vae = train_large(work) if part == "large" else make_crisp(work).cpu()
        vae.save_pretrained(work / part / "model")
        install_autoencoder(vae, assets)
        for measured in MEASURED:
            measure_part(measured, work)
    elif part == "oracle":
        from lab.train.oracle import make_oracle

        make_oracle(data, held_out, judged_pictures(work, held_out), work / "oracle", assets / "toybox" / "oracle")
    else:
        from lab.train.clip import make_clip

        make_clip(data, held_out, judged_pictures(work, held_out), work / "clip", assets / "toybox" / "clip")
