"""How the watcher is written, measured as it will be loaded, and described: right answers, early answers, confidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from PIL import Image
from torch import nn

from lab.score import SEED_START
from lab.train import preview as previews
from lab.train.card import stages_of, write_card
from lab.train.data import SIZE, Dataset
from lab.train.denoiser import latents_of
from lab.train.half_formed import half_formed
from lab.train.portable import make_portable
from lab.train.quiz import ASKED, FINER, Pair, ask_for
from lab.train.watcher import FINE, READING, SETTINGS, WHOLE, make_words, train_reading, train_watcher
from negguide.toybox.load import PIPELINES, load_pipeline
from negguide.toybox.oracle import Oracle
from negguide.toybox.watcher import load_watcher
from negguide.toybox.world import bias
from negguide.toybox.world.captions import prompt
from negguide.toybox.world.scene import Scene
from negguide.watchers import generation
from negguide.watchers.protocol import Answer, Question
from negguide.watchers.questions import KIND

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
    from transformers import BlipForQuestionAnswering

    from negguide.types import Pipeline
    from negguide.watchers import VisualQuestionAnswering

MARKS: Final = (0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8)
"""Fractions of sampling at which the answers are compared with those to the finished picture."""
MEASURED: Final = 2000
"""Held-out renders that are asked about."""
NAMED: Final = ("kind of a category", "what", "colour", "presence")
"""The sorts that watchers ask most."""
EARLY: Final = 96
"""Pictures of that comparison."""


def save_watcher(model: BlipForQuestionAnswering, folder: Path) -> None:
    """Write model and processor in the public format, float16."""
    from transformers import BlipImageProcessor, BlipProcessor

    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    images = BlipImageProcessor(size={"height": SIZE, "width": SIZE}, **half)
    nn.Module.to(model, "cpu").half()
    model.save_pretrained(folder)
    model.float()
    BlipProcessor(images, make_words()).save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)
    make_portable(folder)


def answers(watcher: VisualQuestionAnswering, images: Sequence[Image.Image], texts: Sequence[str]) -> list[Answer]:
    """The answer of each picture to its own question; pictures with equal questions are asked together."""
    found: dict[int, Answer] = {}
    for text in dict.fromkeys(texts):
        places = [place for place, own in enumerate(texts) if own == text]
        rows = watcher([images[place] for place in places], [Question(text)])
        found |= {place: row[0][0] for place, row in zip(places, rows, strict=True)}
    return [found[place] for place in range(len(texts))]


def score_answers(
    watcher: VisualQuestionAnswering, scenes: Sequence[Scene], images: np.ndarray, seed: int = 8
) -> dict[str, float]:
    """Percent right for every sort of question, one of each sort a picture; `NAMED` and all together; error of the confidence.

    "calibration error": mean distance between confidence and share of right answers over ten equal groups of confidence.
    """
    rng = np.random.default_rng(seed)
    pictures = [Image.fromarray(picture) for picture in images]
    scores, right, named, sure = {}, [], [], []
    for sort, (make, _) in ASKED.items():
        pairs: list[Pair] = [make(scene, rng) for scene in scenes]
        said = answers(watcher, pictures, [question for question, _ in pairs])
        hits = [answer.text == wanted for answer, (_, wanted) in zip(said, pairs, strict=True)]
        scores[sort] = round(100 * float(np.mean(hits)), 2)
        right += hits
        named += hits if sort in NAMED else []
        sure += [answer.confidence or 0.0 for answer in said]
    scores["the four"] = round(100 * float(np.mean(named)), 2)
    scores["all"] = round(100 * float(np.mean(right)), 2)
    scores["calibration error"] = round(100 * calibration_error(np.array(sure), np.array(right)), 2)
    return scores


def calibration_error(sure: np.ndarray, right: np.ndarray, groups: int = 10) -> float:
    """Expected calibration error (arXiv:1706.04599) of confidences (N,) in [0, 1] and hits (N,)."""
    place = np.minimum((sure * groups).astype(int), groups - 1)
    total = sum(abs(sure[place == g].sum() - right[place == g].sum()) for g in range(groups))
    return float(total / len(sure))


def forming(
    pipe: Pipeline, texts: Sequence[str], seeds: Sequence[int]
) -> tuple[list[list[Image.Image]], list[Image.Image]]:
    """What a watcher would be shown at `MARKS`, mark by mark, and the finished pictures."""
    from negguide.engine import attach
    from negguide.methods import AdaptiveNegatives

    seen: list[list[Image.Image]] = []

    def keep(images: Sequence[Image.Image], questions: Sequence[Question]) -> list[list[str]]:
        seen.append(list(images))
        return [[""]] * len(images)

    watching = AdaptiveNegatives(keep, questions="What is it?", looks=MARKS)
    with attach(pipe, watching):
        made = pipe(
            list(texts),
            num_inference_steps=25,
            guidance_scale=5.0,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        ).images
    return seen, list(made)


def score_early(
    pipe: Pipeline, watcher: VisualQuestionAnswering, count: int = EARLY, batch: int = 32
) -> dict[str, dict[str, float]]:
    """Percent of answers that are already those to the finished picture, for each mark; prompts "a <category>".

    "kind": the question derived from the prompt. "colour", "hat": of all, and of pets and faces. "oracle's kind": the
    share in which the answer is the kind that the oracle sees in the finished picture. "confidence": of the kind.
    """
    texts = [prompt(list(bias.CATEGORIES)[place % len(bias.CATEGORIES)]) for place in range(count)]
    seeds = range(SEED_START + 300_000, SEED_START + 300_000 + count)
    shown: list[list[Image.Image]] = [[] for _ in MARKS]
    made: list[Image.Image] = []
    for start in range(0, count, batch):
        part, ends = forming(pipe, texts[start : start + batch], seeds[start : start + batch])
        for mark, images in zip(shown, part, strict=True):
            mark += images
        made += ends
    wears = [place for place, text in enumerate(texts) if any(name in text for name in bias.WEARERS)]
    judged = Oracle.load().judge(made).kind
    asked = {
        "kind": (range(count), [KIND.format(noun=text.split()[1]) for text in texts]),
        "colour": (range(count), ["What colour is it?"] * count),
        "hat": (wears, [ask_for("hat")] * len(wears)),
    }
    table: dict[str, dict[str, float]] = {f"at {mark:.0%}".replace("%", " %"): {} for mark in MARKS}
    for name, (places, questions) in asked.items():
        final = answers(watcher, [made[place] for place in places], questions)
        for column, images in zip(table.values(), shown, strict=True):
            said = answers(watcher, [images[place] for place in places], questions)
            column[name] = _percent([a.text == b.text for a, b in zip(said, final, strict=True)])
            if name == "kind":
                column["oracle's kind"] = _percent([a.text == kind for a, kind in zip(said, judged, strict=True)])
                column["confidence"] = _percent([answer.confidence or 0.0 for answer in said])
    return table


def make_watcher(
    data: Dataset, held_out: Dataset, more: Mapping[str, np.ndarray], vae: AutoencoderKL, work: Path, folder: Path
) -> None:
    """The whole recipe: preview, half-formed pictures, watcher, export. What `work` already holds is not made again."""
    pipe = load_pipeline("sd")
    latents = latents_of(vae, data, work.parent / "denoiser" / "latents.npy")
    preview = previews.train_preview(data, latents, work / "preview")
    half = half_formed(pipe, latents, data, work / "half.npz")
    model = train_watcher(data, latents, half, preview, work / "answers")
    model = train_reading(model, data, latents, half, preview, work / "reading")
    model = train_reading(model, data, latents, half, preview, work / "whole", WHOLE, whole=True)
    model = train_reading(model, data, latents, half, preview, work / "fine", FINE, whole=True, practice=FINER)
    export_watcher(model, preview.cpu(), folder, held_out, more, pipe.to("cpu"), work)


def _percent(values: Sequence[float]) -> float:
    return round(100 * float(np.mean(values)), 1)


ABOUT = """
A small visual-question-answering model (`BlipForQuestionAnswering`, transformers) that answers in a word: what is it, what
kind of pet is it, what colour is it, is there a hat in the picture? It is trained on renders of the Toybox world, on
what the preview (`sd/preview`, an `AutoencoderTiny`) shows of them, and on half-formed pictures: the pipeline's guided
clean estimate from a render that is noised to somewhere between the beginning and 85 % of sampling. Their right answer
is what the render shows, so that confidence falls with what can be known yet.

While it is trained, its vision tokens also copy features of the bundled CLIP's and name the scene's attributes; the oracle, which
judges the benches, has no part in that.

```python
from negguide.toybox.watcher import load_watcher        # or negguide.AdaptiveNegatives("toybox")
from negguide.watchers import Question
load_watcher()([picture], [Question("What kind of pet is it?")])
```
"""
RIGHT = f"""
Percent of questions answered right, asked through the public class that `load_watcher` gives; one question of each sort a picture.
"the four": the sorts that watchers ask most, {", ".join(NAMED)}.
"""
ALREADY = f"""
Percent of answers to the half-formed picture that are already the answer to the finished one; {EARLY} pictures for "a <category>",
25 steps, guidance scale 5. "oracle's kind": the answer is the kind that the oracle sees in the finished picture.
"""


def export_watcher(
    model: BlipForQuestionAnswering | None,
    preview: AutoencoderTiny | None,
    folder: Path,
    held_out: Dataset,
    more: Mapping[str, np.ndarray],
    pipe: Pipeline,
    work: Path,
) -> None:
    """Write watcher and preview, measure them as they will be loaded, and write the model card; None: what lies there is kept."""
    if preview is not None:
        for name in PIPELINES:  # they share their latents
            if (folder.parent / name).is_dir():
                previews.save_preview(preview, folder.parent / name / "preview")
    if model is not None:
        save_watcher(model, folder)
    watcher = load_watcher(folder)
    sets = {name: images[:MEASURED] for name, images in {"held-out renders": held_out.images, **more}.items()}
    right = {name: score_answers(watcher, held_out.scenes[:MEASURED], images) for name, images in sets.items()}
    loaded = generation.load("AutoModelForVisualQuestionAnswering", str(folder), None, None).model
    write_card(
        folder,
        "The Toybox watcher",
        ABOUT,
        {
            "parameters": f"{sum(parameter.numel() for parameter in loaded.parameters()):,}",
            "parameters of the preview": sum(p.numel() for p in previews.make_preview().decoder.parameters()),
            "training pictures": "100,000 renders, split 1, and 12,000 half-formed ones of them",
            "measured": f"on {MEASURED:,} renders of split 2",
        },
        stages_of(
            work,
            {"preview": previews.SETTINGS, "answers": SETTINGS, "reading": READING, "whole": WHOLE, "fine": FINE},
            folder,
        ),
        {"Right answers": (RIGHT, right), "Early answers": (ALREADY, score_early(pipe, watcher))},
    )
