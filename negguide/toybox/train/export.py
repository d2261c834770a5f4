"""Write the trained pipeline in the public format, and its model card with the scores of what was written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import StableDiffusionPipeline

from negguide.toybox.load import load_pipeline
from negguide.toybox.oracle import Oracle
from negguide.toybox.score import score_generator
from negguide.toybox.train import denoiser, vae
from negguide.toybox.train.card import stages_of, write_card
from negguide.toybox.train.data import Dataset

if TYPE_CHECKING:
    from collections.abc import Mapping

ABOUT = """
A small Stable-Diffusion-type pipeline for the Toybox world: `AutoencoderKL` (64x64 pictures to 8x16x16 latents),
`CLIPTextModel` with a tokenizer made for the caption grammar, `UNet2DConditionModel` with self- and cross-attention,
epsilon prediction, classifier-free guidance. Every weight was trained from scratch by `negguide toybox train`.

```python
from negguide.toybox.load import load_pipeline          # or StableDiffusionPipeline.from_pretrained(<this folder>)
image = load_pipeline()("a red cat on grass", num_inference_steps=25, guidance_scale=5.0).images[0]
```
"""


def export_pipeline(pipe: StableDiffusionPipeline, folder: Path) -> None:
    """Write the pipeline as float16 safetensors; the one in memory stays as it is."""
    pipe.to(torch.float16)
    pipe.save_pretrained(folder, safe_serialization=True)
    pipe.to(torch.float32)


def export_denoiser(pipe: StableDiffusionPipeline, folder: Path, held_out: Dataset, work: Path) -> None:
    """Export, load what was exported, score it with the oracle, and write the card."""
    export_pipeline(pipe, folder)
    loaded = load_pipeline("sd")
    scores = score_generator(loaded, Oracle.load())
    write_generator_card(loaded, folder, held_out, work, scores)


def write_generator_card(
    pipe: StableDiffusionPipeline, folder: Path, held_out: Dataset, work: Path, scores: Mapping[str, Any]
) -> None:
    """The model card of the pipeline in `folder`."""
    trainings = {
        "vae": vae.SETTINGS,
        "vae/sharpening": vae.SHARPENING,
        **{f"denoiser/{name}": stage.settings for name, stage in denoiser.STAGES.items()},
    }
    stages = stages_of(work, trainings, folder)
    shares = scores["kinds under 'a <category>'"]
    summary = {
        "dominant kind": scores["dominant kind under 'a <category>'"],
        "recognisably of the category": scores["right category under 'a <category>'"],
    }
    write_card(
        folder,
        "The Toybox pipeline (Stable-Diffusion type)",
        ABOUT,
        {
            **{
                f"parameters of the {name}": _parameters(getattr(pipe, name))
                for name in ("unet", "vae", "text_encoder")
            },
            "sampling": ", ".join(f"{name} {value}" for name, value in scores["settings"].items()),
            "reconstruction": f"{vae.score_vae(pipe.vae, held_out.images[:1000])['psnr_db']} dB PSNR on held-out renders",
        },
        stages,
        {
            "Prompt match": (
                "Percent of 500 pictures, prompts that name kind, colour and background, judged by the oracle.",
                {"right": _percent(scores["prompt match"])},
            ),
            "Biases": (
                'Percent of the pictures for "a <category>": of the kind that dominates the training set (58 % there), '
                "and of any kind of that category.",
                {name: _percent(values) for name, values in summary.items()},
            ),
            "Kinds": ('Percent under "a <category>".', {name: _percent(values) for name, values in shares.items()}),
        },
    )


def _parameters(module: torch.nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()):,}"


def _percent(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(100 * value, 1) for name, value in values.items()}
