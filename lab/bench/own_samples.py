"""Training on its own pictures makes a model worse; used twice: as a negative model (Self-NPO) and as weights to leave (Neon).

    python -m lab.bench.own_samples --out runs/own_samples

An adapter (LoRA) of a few hundred kB is trained on pictures that the bundled pipeline made itself in few steps, on the CPU in some
minutes. `NegativeModel` then puts it into the negative's rows alone (Self-NPO, arXiv:2505.11777); `negguide merge --away` turns it
round and adds it to the model (Neon, arXiv:2510.03597). Judged on captions and seeds that the adapter was not trained on.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import torch
import typer
from peft import LoraConfig, get_peft_model_state_dict
from torch import Tensor

from lab.bench.arms import named
from lab.bench.means import Report
from lab.bench.run import Result, models, run_arms
from lab.generate import generate
from lab.score import SEED_START, specified
from lab.train.data import BENCH, pairs
from negguide.methods import Method, NegativeModel
from negguide.toybox.load import PIPELINES, load_pipeline, pipeline_dir
from negguide.toybox.tokenizer import MAX_LENGTH
from negguide.toybox.world import bias
from negguide.toybox.world.captions import prompt
from negguide.weights import merge

ADAPTER = "own"
PICTURES, SAMPLING_STEPS, AT_ONCE = 192, 8, 48
"""What is trained on: how many own pictures, in how few steps, and how many share a call."""
TRAINING, BATCH, RATE, RANK, EMPTY_SHARE = 200, 24, 5e-4, 4, 0.1
"""Of the adapter: steps, pictures in each, learning rate, rank, and the share of pictures without a caption."""
FIRST_SEED = SEED_START + 600_000
OPEN, SPECIFIED = 16, 10
"""Pictures of each open prompt ("a pet"), and fully specified prompts for each block."""
BLOCKS = 6


@dataclass(frozen=True)
class Use:
    """A way to use the adapter, at one strength."""

    method: str
    strength: float = 0.0

    @property
    def name(self) -> str:
        """As in the tables: "away 0.5"."""
        return f"{self.method} {self.strength:g}" if self.strength else self.method


def uses() -> tuple[Use, ...]:
    """Plain, the tuned model itself, then what goes away from it."""
    return (
        Use("plain"),
        Use("tuned", 1.0),
        *(Use("negative_model", weight) for weight in (0.5, 1.0, 2.0)),
        *(Use("away", away) for away in (0.25, 0.5, 1.0)),
    )


def adapter(folder: Path) -> Path:
    """The file of the adapter, trained if it is not there."""
    file = folder / "pytorch_lora_weights.safetensors"
    if not file.exists():
        pipe = load_pipeline("sd")
        captions = [text for _, text in pairs(BENCH, 77, PICTURES)]
        latents = _own_latents(pipe, captions)
        _train(pipe, latents, captions)
        layers = cast("dict[str, Any]", get_peft_model_state_dict(pipe.unet, adapter_name=ADAPTER))
        type(pipe).save_lora_weights(str(folder), unet_lora_layers=layers)
    return file


def _own_latents(pipe: Any, captions: list[str]) -> Tensor:
    """(N, 8, 16, 16) latents that the pipeline makes of the captions in few steps."""
    parts = []
    for start in range(0, len(captions), AT_ONCE):
        texts = captions[start : start + AT_ONCE]
        generators = [torch.Generator().manual_seed(FIRST_SEED - 1 - start - place) for place in range(len(texts))]
        call = {"num_inference_steps": SAMPLING_STEPS, "guidance_scale": PIPELINES["sd"].guidance_scale}
        parts.append(pipe(texts, generator=generators, output_type="latent", **call).images)
    return torch.cat(parts)


def _train(pipe: Any, latents: Tensor, captions: list[str]) -> None:
    """Add the adapter to the UNet and fit it to the latents."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        targets = ["to_q", "to_k", "to_v", "to_out.0"]
        pipe.unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets), adapter_name=ADAPTER)
        padding = {"padding": "max_length", "max_length": MAX_LENGTH, "truncation": True, "return_tensors": "pt"}
        with torch.no_grad():
            words = pipe.text_encoder(pipe.tokenizer([*captions, ""], **padding).input_ids).last_hidden_state
        learnt = [parameter for parameter in pipe.unet.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(learnt, RATE)
        for _ in range(TRAINING):
            chosen = torch.randint(len(latents), (BATCH,))
            said = torch.where(torch.rand(BATCH) < EMPTY_SHARE, len(captions), chosen)
            noise, t = torch.randn(BATCH, *latents.shape[1:]), torch.randint(1000, (BATCH,))
            noised = pipe.scheduler.add_noise(latents[chosen], noise, t)
            loss = (pipe.unet(noised, t, words[said]).sample - noise).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def prepared(folder: Path, use: Use) -> tuple[Any, tuple[Method, ...]]:
    """A pipeline with the adapter as the arm has it, and what to attach."""
    pipe, file = load_pipeline("sd"), adapter(folder)
    if use.method == "plain":
        return pipe, ()
    if use.method == "away":
        turned = folder / f"away-{use.strength:g}.safetensors"
        if not turned.exists():
            merge(pipeline_dir("sd"), file, use.strength, turned)
        file = turned
    pipe.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name=ADAPTER)
    return pipe, (NegativeModel(ADAPTER, weight=use.strength),) if use.method == "negative_model" else ()


def run_use(folder: Path, use: Use) -> Result:
    """The pictures of an arm, and a row for each block of prompts: one category's open prompt, and some that say everything."""
    pipe, methods = prepared(folder, use)
    asked = specified(BLOCKS * SPECIFIED, seed=6)
    said = [prompt(row["kind"], colour=row["colour"], background=row["background"]) for row in asked]
    texts = [text for category in bias.CATEGORIES for text in [prompt(category)] * OPEN] + said
    started = time.monotonic()
    images = generate(pipe, texts, range(FIRST_SEED, FIRST_SEED + len(texts)), *methods)
    seconds = (time.monotonic() - started) / len(images)
    judged, first = models()[1].judge(images), BLOCKS * OPEN
    right = [
        all(getattr(judged, name)[first + place] == row[name] for name in ("kind", "colour", "background"))
        for place, row in enumerate(asked)
    ]
    rows = []
    for block, category in enumerate(bias.CATEGORIES):
        part = slice(block * OPEN, (block + 1) * OPEN)
        common, drawn = bias.KINDS[category], Counter(judged.kind[part])
        astray = OPEN - sum(drawn[kind] for kind in common)
        away = 0.5 * (sum(abs(drawn[kind] / OPEN - share) for kind, share in common.items()) + astray / OPEN)
        rows.append(
            {
                "method": use.method,
                "strength": use.strength,
                "seconds": seconds,
                "prompt": prompt(category),
                "right": float(np.mean(right[block * SPECIFIED : (block + 1) * SPECIFIED])),
                "valid": 1 - astray / OPEN,
                "away": away,
                "dominant": drawn[next(iter(common))] / OPEN,
                "confidence": float(judged.kind_confidence[part].mean()),
            }
        )
    return images, rows


REPORT = Report(
    name="own_samples",
    measures={
        "right": "kind, colour and place right",
        "valid": "category right",
        "away": "distance from the world's kinds",
        "dominant": "dominant kind",
        "confidence": "oracle confidence",
    },
    meanings={
        "tuned": "the adapter at work everywhere",
        "negative_model": "weight of the adapter in the negative's rows",
        "away": "`negguide merge --away`, the adapter turned round",
    },
    across="valid",
    upward=("right", "confidence"),
    compared=("right", "valid", "away"),
)


def main(
    out: Annotated[Path, typer.Option(help="Folder for adapter, rows and tables; a stopped bench goes on.")] = Path(
        "runs/own_samples"
    ),
    chosen: Annotated[str | None, typer.Option("--arms", help="Only these; all when not given.")] = None,
) -> None:
    """Train the adapter, use it in every way, judge the pictures."""
    torch.set_num_threads(1)
    adapter(out)
    rows = run_arms(out, named(chosen, uses(), ("plain",)), partial(run_use, out), 1)
    order = {use.name: place for place, use in enumerate(uses())}
    settings = {
        "model": "sd",
        "open prompts": len(bias.CATEGORIES),
        "pictures of each": OPEN,
        "specified": BLOCKS * SPECIFIED,
    }
    typer.echo(REPORT.write(sorted(rows, key=lambda row: order[row["arm"]]), out, settings))


if __name__ == "__main__":
    typer.run(main)
