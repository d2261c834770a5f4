"""The options of `negguide compare`: what each is called, means and belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

METHODS = "plain,negative,signed,perp_neg,recommended"
WHAT, HOW, WHERE = "What to make", "How to make it", "Model, judge and output"
WITH = "Beside the prompt"

Prompts = Annotated[
    list[str] | None,
    typer.Argument(help='Prompts. One may hold its own negatives: "a pet --no cat:0.8, hat".', show_default=False),
]
PromptsFile = Annotated[
    Path | None, typer.Option("--prompts", help="More prompts from a text file, one a line.", rich_help_panel=WHAT)
]
Negatives = Annotated[
    list[str] | None,
    typer.Option(
        "--negative",
        "-n",
        metavar="TEXT[:W[@A-B]]",
        help="What is not wanted, in all prompts; repeat for more. W: weight; A-B: fractions of sampling when it holds.",
        rich_help_panel=WHAT,
    ),
]
MethodNames = Annotated[
    str,
    typer.Option(
        "--methods",
        "-m",
        help="What is compared; [bold]negguide methods[/bold] lists them. Options: perp_neg:weight=2. Together: perp_neg+apg.",
        rich_help_panel=WHAT,
    ),
]
Seeds = Annotated[str, typer.Option(help="One picture per seed and method: 0,1,2 or 0-7.", rich_help_panel=WHAT)]
Weight = Annotated[float, typer.Option(help="Multiplies the weight of every negative.", rich_help_panel=HOW)]
Steps = Annotated[
    int | None,
    typer.Option(
        help="Steps of sampling; left out, 25, for toybox/few-step 4.", rich_help_panel=HOW, show_default=False
    ),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        help="Guidance scale; left out, the Toybox takes 5 (few-step 1) and any other model its own default.",
        rich_help_panel=HOW,
    ),
]
Size = Annotated[str | None, typer.Option(help="512 or 768x512; left out, the model's own.", rich_help_panel=HOW)]
Batch = Annotated[
    int | None, typer.Option(help="Pictures per call; left out, 8 for the Toybox and 1 otherwise.", rich_help_panel=HOW)
]
Takeover = Annotated[
    bool,
    typer.Option(
        "--takeover", help="negguide guides, for distilled models without guidance of their own.", rich_help_panel=HOW
    ),
]
ModelName = Annotated[
    str,
    typer.Option(
        help="toybox, toybox/sd3, toybox/few-step (bundled), a folder, or a model of the Hub such as org/name.",
        rich_help_panel=WHERE,
    ),
]
DType = Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.", rich_help_panel=WHERE)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.", rich_help_panel=WHERE)]
ClipName = Annotated[
    str | None,
    typer.Option(
        "--clip",
        help="open_clip model that judges, e.g. ViT-B-32/laion2b_s34b_b79k; the Toybox brings its own.",
        rich_help_panel=WHERE,
    ),
]
UseJudge = Annotated[
    bool, typer.Option("--judge/--no-judge", help="Judge the pictures, or only make them.", rich_help_panel=WHERE)
]
Loras = Annotated[
    list[str] | None,
    typer.Option(
        "--lora", metavar="NAME[:W]", help="LoRA weights, with their weight; repeat for more.", rich_help_panel=WITH
    ),
]
Scheduler = Annotated[
    str | None, typer.Option(help="A scheduler class of diffusers, e.g. EulerDiscreteScheduler.", rich_help_panel=WITH)
]
StartImage = Annotated[
    Path | None, typer.Option("--image", help="A picture to start from (image-to-image).", rich_help_panel=WITH)
]
Mask = Annotated[Path | None, typer.Option(help="What of --image is painted anew: white.", rich_help_panel=WITH)]
Strength = Annotated[
    float | None, typer.Option(help="How much of sampling is done from --image, 0 to 1.", rich_help_panel=WITH)
]
ControlNet = Annotated[
    str | None, typer.Option("--controlnet", help="A ControlNet: a folder or a model of the Hub.", rich_help_panel=WITH)
]
ControlImage = Annotated[Path | None, typer.Option(help="What the ControlNet follows.", rich_help_panel=WITH)]
IPAdapter = Annotated[
    str | None,
    typer.Option("--ip-adapter", help="org/name/subfolder/FILE.safetensors of an IP-Adapter.", rich_help_panel=WITH),
]
IPImage = Annotated[Path | None, typer.Option("--ip-image", help="What the IP-Adapter follows.", rich_help_panel=WITH)]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for everything.", rich_help_panel=WHERE)]
