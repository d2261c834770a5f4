"""`negguide learn`: a negative that is learnt once and costs no pass afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from negguide.commands.compare_options import Device, DType, Guidance, ModelName, Steps
from negguide.commands.terminal import one_line, progress_bar, quiet_libraries

Thing = Annotated[str, typer.Argument(help="What is to be taken out: cat.")]
Anchor = Annotated[
    list[str],
    typer.Option(
        "--anchor", help="What may stand in its place: dog; repeat for several, the nearer to the thing the better."
    ),
]
PromptsFile = Annotated[
    Path | None,
    typer.Option("--prompts", help="Prompts with {} for the thing, one a line; 50 simple ones when left out."),
]
Where = Annotated[str, typer.Option(help="Attention layers: all, or text (those alone that read the text).")]
Batch = Annotated[int, typer.Option(help="Prompts that share a call.", min=1)]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="The safetensors file; THING.safetensors when left out.")]


def learn(
    thing: Thing,
    anchor: Anchor,
    prompts: PromptsFile = None,
    where: Where = "all",
    steps: Steps = None,
    guidance: Guidance = None,
    model: ModelName = "toybox",
    dtype: DType = "auto",
    device: Device = "auto",
    batch: Batch = 10,
    out: Out = None,
) -> None:
    """Learn a thing once, to take it out of any number of pictures without an extra pass.

    negguide learn cat --anchor dog --anchor rabbit
    negguide compare "a pet" -m plain,learned_negative:file=cat.safetensors

    Pictures of about 50 prompts are begun with the thing and with what may stand in its place; the difference that it makes
    behind each attention layer is saved. The file fits the model on which it was learnt.
    """
    from negguide.experiment.models import check_model
    from negguide.experiment.tasks import STEPS
    from negguide.names import bundled_model

    with one_line():
        if where not in ("all", "text"):
            raise ValueError(f"unknown layers {where!r}; possible: all, text")
        check_model(model, dtype)
        lines = prompts.read_text(encoding="utf-8").splitlines() if prompts else []
        usual = bundled.sampling if (bundled := bundled_model(model)) else None
        call = {"num_inference_steps": steps or (usual.steps if usual else STEPS), **(usual.more if usual else {})}
        scale = guidance if guidance is not None else (usual.guidance_scale if usual else None)
        if scale is not None:
            call["guidance_scale"] = scale
        quiet_libraries()
        from negguide import learn as learning
        from negguide.experiment.models import load_model

        templates = [line.strip() for line in lines if line.strip()] or learning.TEMPLATES
        target = out or Path(f"{thing.replace(' ', '-')}.safetensors")
        with progress_bar(2 * len(templates)) as tell:
            pipe = load_model(model, dtype, device).pipe
            learned = learning.learn(
                pipe,
                thing,
                anchor,
                templates,
                where,  # type: ignore[arg-type]  # one of the two, as checked
                batch=batch,
                tell=lambda count: tell(thing, count),
                **call,
            )
        learned.save(target)
    typer.echo(
        f"{thing}, instead of it {', '.join(anchor)}: {len(learned.layers)} layers of {learned.family} in {target}"
    )
