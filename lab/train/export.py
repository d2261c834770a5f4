"""Write the trained pipeline in the public format, and its model card with the scores of what was written."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from lab.score import score_generator
from lab.train import crisp, denoiser, enlarge, mmdit, student, vae, words
from lab.train.card import stages_of, write_card
from lab.train.common import Settings
from lab.train.data import HELD_OUT, HELD_OUT_PICTURES, make_dataset
from lab.train.portable import make_portable
from negguide.toybox.load import load_folder
from negguide.toybox.oracle import Oracle
from negguide.types import Pipeline

SD = """
A small Stable-Diffusion-type pipeline for the Toybox world: `AutoencoderKL` (128x128 pictures to 8x16x16 latents),
`CLIPTextModel` with a tokenizer made for the caption grammar, `UNet2DConditionModel` with self- and cross-attention,
epsilon prediction, classifier-free guidance. Every weight was trained from scratch by `negguide toybox train`.

```python
from negguide.toybox.load import load_pipeline          # or StableDiffusionPipeline.from_pretrained(<this folder>)
image = load_pipeline()("a red cat on grass", num_inference_steps=25, guidance_scale=5.0).images[0]
```
"""


SD3 = """
A small flow-matching pipeline for the Toybox world in the format of Stable Diffusion 3: `SD3Transformer2DModel` (joint
blocks, rectified flow, classifier-free training), two `CLIPTextModelWithProjection`, no T5 encoder, and the autoencoder of
the pipeline `sd`. The first text encoder started from that pipeline's; all else was trained from scratch by
`negguide toybox train mmdit`.

```python
from negguide.toybox.load import load_pipeline          # or StableDiffusion3Pipeline.from_pretrained(
pipe = load_pipeline("sd3")                     #   <this folder>, text_encoder_3=None, tokenizer_3=None)
image = pipe("a red cat on grass", num_inference_steps=25, guidance_scale=5.0, max_sequence_length=0).images[0]
```

`max_sequence_length=0` leaves out the 256 zero tokens that the stock pipeline puts in the place of T5's; it draws with
them too, about three times slower.
"""

FEW_STEP = f"""
A student of the pipeline `sd` that needs 4 steps and no guidance: the same parts, its UNet taught by
`negguide toybox train student` to cross in one step of DDIM what the teacher, guided at 5, covers in three. The training
ends at step {student.UNTIL}, before the schedule of its learning rate does; making the teacher's {student.COUNT:,}
trajectories is not in its wall time. The teacher's words for pets and faces were trained after that;
the student's were then moved as the teacher's had moved, {words.FOLLOWING["pet"]} and {words.FOLLOWING["face"]} times as
far, and the word for plants {words.AWAY["plant"][1]} of the way away from that for a flower (`lab/train/words.py`).

```python
from negguide.toybox.load import load_pipeline          # or StableDiffusionPipeline.from_pretrained(<this folder>)
image = load_pipeline("few-step")("a red cat on grass", num_inference_steps=4, guidance_scale=1.0).images[0]
```

It has no guidance to put a negative prompt into: that is what NAG, VSF and negative weights are for.
"""


def export_pipeline(pipe: Pipeline, folder: Path) -> None:
    """Write the pipeline as float16 safetensors, without a trace of where its parts came from.

    Parts that are None are listed as such, as in public folders; diffusers leaves out those that it holds for necessary.
    """
    pipe.to(torch.float16)
    pipe.save_pretrained(folder, safe_serialization=True)
    pipe.to(torch.float32)
    index = folder / "model_index.json"
    listed = json.loads(index.read_text())
    parts = inspect.signature(type(pipe).__init__).parameters
    listed |= {name: [None, None] for name in parts if getattr(pipe, name, pipe) is None}
    index.write_text(json.dumps(listed, indent=2, sort_keys=True) + "\n")
    _tidy(folder)
    make_portable(folder)


def _tidy(folder: Path) -> None:
    for file in folder.rglob("*.json"):
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(line for line in lines if '"_name_or_path"' not in line))
    for file in folder.rglob("*.safetensors"):
        file.chmod(0o644)


@dataclass(frozen=True)
class Generator:
    """What the card of a bundled pipeline says of it; `trainings`: its own, those of the autoencoder are told with the first."""

    title: str
    about: str
    modules: tuple[str, ...]
    trainings: Mapping[str, Settings]


GENERATORS = {
    "sd": Generator(
        "The Toybox pipeline (Stable-Diffusion type)",
        SD,
        ("unet", "vae", "text_encoder"),
        {
            "vae": vae.SETTINGS,
            "vae/sharpening": vae.SHARPENING,
            **{f"denoiser/{name}": stage.settings for name, stage in denoiser.STAGES.items()},
            "large": enlarge.SETTINGS,
            "crisp": crisp.SETTINGS,
        },
    ),
    "sd3": Generator(
        "The Toybox pipeline of flow matching (Stable-Diffusion-3 type)",
        SD3,
        ("transformer", "vae", "text_encoder", "text_encoder_2"),
        {**mmdit.STAGES, "mmdit/words": words.FLOW.settings, "mmdit/kinds": words.FLOW_LATER.settings},
    ),
    "few-step": Generator(
        "The few-step Toybox pipeline (4 steps, no guidance)",
        FEW_STEP,
        ("unet", "vae", "text_encoder"),
        {"student": student.SETTINGS},
    ),
}


def install_autoencoder(vae: AutoencoderKL, assets: Path) -> None:
    """Give it to every bundled pipeline: they share their latents."""
    for name in GENERATORS:
        folder = assets / "toybox" / name
        before = json.loads((folder / "vae" / "config.json").read_text())
        own = copy.deepcopy(vae).half()
        own.register_to_config(**{key: before[key] for key in ("scaling_factor", "shift_factor")})
        own.save_pretrained(folder / "vae", safe_serialization=True)
        _tidy(folder / "vae")


def export_generator(pipe: Pipeline, name: str, assets: Path, work: Path) -> None:
    """Export, load what was exported, score it with the oracle, and write the card."""
    folder = assets / "toybox" / name
    export_pipeline(pipe, folder)
    loaded = load_folder(folder)
    write_generator_card(loaded, name, folder, work, score_generator(loaded, Oracle.load(), name))


def write_generator_card(pipe: Pipeline, name: str, folder: Path, work: Path, scores: Mapping[str, Any]) -> None:
    """The model card of the pipeline in `folder`."""
    held_out = make_dataset(work / "data", HELD_OUT_PICTURES, HELD_OUT, size=pipe.vae.config.sample_size)
    drawn = vae.score_vae(pipe.vae, held_out.images[:1000])
    generator = GENERATORS[name]
    shares, pictures = scores["kinds under 'a <category>'"], scores["pictures"]
    summary = {
        "dominant kind": scores["dominant kind under 'a <category>'"],
        "recognisably of the category": scores["right category under 'a <category>'"],
    }
    write_card(
        folder,
        generator.title,
        generator.about,
        {
            **{f"parameters of the {part}": _parameters(getattr(pipe, part)) for part in generator.modules},
            "sampling": ", ".join(f"{name} {value}" for name, value in scores["settings"].items()),
            "reconstruction of 1,000 held-out renders": f"{drawn['psnr_db']} dB PSNR, edges {drawn['sharpness']} times as sharp",
        },
        stages_of(work, generator.trainings, folder),
        {
            "Prompt match": (
                f"Percent of {pictures['fully specified']} pictures, prompts that name kind, colour and background, judged by "
                "the oracle.",
                {"right": _percent(scores["prompt match"])},
            ),
            "Biases": (
                f'Percent of {pictures["of each category"]} pictures for "a <category>": of the kind that dominates the '
                "training set (58 % there), and of any kind of that category.",
                {name: _percent(values) for name, values in summary.items()},
            ),
            "Kinds": ('Percent under "a <category>".', {name: _percent(values) for name, values in shares.items()}),
        },
    )


def _parameters(module: torch.nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()):,}"


def _percent(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(100 * value, 1) for name, value in values.items()}
