"""The folded parts of the page: settings of methods, weights, regions, pictures to avoid, sampling, the model."""

from __future__ import annotations

from typing import Literal

import gradio as gr

from negguide.demo.components import Page
from negguide.demo.options import HUB, Options
from negguide.demo.parts import HEADERS, beside_names, panel, to_rows
from negguide.demo.pictures import keep_raw
from negguide.demo.settings import OFFLOADS, Settings
from negguide.experiment.models import DTYPES


def advanced(page: Page, options: Options, start: Settings) -> None:
    """Put the folded parts in their place, inside the page's left column."""
    with gr.Accordion("Settings of the methods", open=False, elem_id="ng-panel"):
        page.also = gr.Dropdown(
            beside_names(),
            value=[],
            multiselect=True,
            max_choices=3,
            label="Together with",
            info="Acts beside every method.",
        )
        page.panel = panel(options)
    with gr.Accordion("Negatives one by one: weights and windows", open=False, elem_id="ng-more"):
        page.table = gr.Dataframe(
            to_rows(start.negatives),
            headers=HEADERS,
            datatype=["str", "number", "number", "number"],
            type="array",
            column_count=4,
            interactive=True,
            label="From and to are fractions of sampling",
            elem_id="ng-table",
        )
        page.add_row = gr.Button("Add a negative", size="sm")
    with gr.Accordion("Where: paint the region that must not have it", open=False, elem_id="ng-where"):
        page.mask = _editor("Painted is where the negatives hold; nothing painted: everywhere", "ng-mask", [])
        with gr.Row():
            page.mask_paint = gr.Button("Paint on the plain picture", size="sm", elem_id="ng-mask-paint")
            page.mask_clear = gr.Button("Clear", size="sm", elem_id="ng-mask-clear")
    with gr.Accordion("Pictures to avoid", open=False, elem_id="ng-avoid"):
        page.avoid = _editor(
            "A picture; paint what of it is meant, or leave it unpainted for all of it",
            "ng-avoid-editor",
            ["upload", "clipboard"],
        )
        with gr.Row():
            page.avoid_add = gr.Button("Add to those to avoid", size="sm", elem_id="ng-avoid-add")
            page.avoid_clear = gr.Button("Remove all", size="sm")
        page.avoided = gr.Gallery(
            label="Avoided (by negtome, spell, particle_guidance)",
            columns=4,
            height=170,
            object_fit="contain",
            interactive=False,
            elem_id="ng-avoided",
        )
    with gr.Accordion("Sampling", open=False, elem_id="ng-sampling"):
        with gr.Row():
            page.seed = gr.Number(
                start.seed, label="Seed", precision=0, minimum=0, maximum=2**32 - 9, elem_id="ng-seed", min_width=120
            )
            page.randomise = gr.Checkbox(False, label="A new seed each time", elem_id="ng-randomise", min_width=120)
            page.count = gr.Slider(1, options.pictures, value=start.count, step=1, label="Pictures", elem_id="ng-count")
        with gr.Row():
            page.steps = gr.Number(
                start.steps,
                label="Steps",
                precision=0,
                minimum=1,
                maximum=options.steps,
                placeholder="the model's own",
                elem_id="ng-steps",
            )
            page.guidance = gr.Number(
                start.guidance,
                label="Guidance scale",
                minimum=0,
                maximum=50,
                placeholder="the model's own",
                elem_id="ng-guidance",
            )
            page.size = gr.Textbox(
                "", label="Size", placeholder="the model's own, or 512x768", max_lines=1, max_length=12
            )
        page.takeover = gr.Checkbox(
            False, label="negguide guides", info="For distilled models without guidance of their own."
        )
    with gr.Accordion("Model, and settings from a picture", open=False, elem_id="ng-model"):
        with gr.Row():
            page.model = gr.Dropdown(
                options.models(),
                value=start.model,
                label="Model",
                elem_id="ng-choose-model",
                allow_custom_value=bool(options.allow_models),
                info="Any name of the Hub." if HUB in options.allow_models else None,
            )
            page.dtype = gr.Dropdown(list(DTYPES), value="auto", label="Precision", min_width=120)
            page.offload = gr.Dropdown(list(OFFLOADS), value="none", label="Offload", min_width=120)
        page.load = gr.File(
            label="Drop a PNG that was made here or by negguide compare",
            file_types=[".png"],
            type="binary",
            height=140,
            elem_id="ng-load",
        )


def _editor(label: str, elem_id: str, sources: list[Literal["upload", "webcam", "clipboard"]]) -> gr.ImageEditor:
    """Where a region is painted; its files come undecoded (`pictures.keep_raw`)."""
    return keep_raw(
        gr.ImageEditor(
            type="pil",
            label=label,
            elem_id=elem_id,
            brush=gr.Brush(default_size=48, colors=["#ff3b30"], color_mode="fixed"),
            sources=sources,
            transforms=(),
            layers=False,
            height=380,
            canvas_size=(384, 384),
            buttons=[],
        )
    )
