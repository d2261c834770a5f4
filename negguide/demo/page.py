"""The page: what stands where. What happens is in `handlers`."""

from __future__ import annotations

import dataclasses
from typing import Any

import gradio as gr

from negguide.demo.options import HUB, Options
from negguide.demo.parts import HEADERS, Panel, beside_names, initial, panel, to_rows
from negguide.demo.pictures import keep_raw
from negguide.demo.settings import OFFLOADS
from negguide.experiment.arms import parse_parts
from negguide.experiment.models import DTYPES
from negguide.methods import METHODS

HEAD = """<h1>Say <em>no</em> to a diffusion model</h1>
<p>One prompt, one thing you do not want, the same seed: see what each kind of negative does. Nothing is retrained.</p>"""
EXAMPLES = (
    ("a pet on grass", "cat", ["perp_neg"]),
    ("a face with a hat", "glasses", ["negative", "perp_neg"]),
    ("a vehicle", "watermark", ["negative", "signed"]),
    ("a building in snow", "house", ["perp_neg", "ccfg"]),
    ("a pet on grass", "", ["negtome"]),
    ("a pet in a room", "", ["adaptive"]),
)
"""Prompt, negatives, methods: all made for the Toybox."""


@dataclasses.dataclass
class Page:
    """The components that handlers speak of."""

    prompt: Any = None
    negatives: Any = None
    methods: Any = None
    also: Any = None
    run: Any = None
    stop: Any = None
    examples: Any = None
    table: Any = None
    add_row: Any = None
    mask: Any = None
    mask_paint: Any = None
    mask_clear: Any = None
    avoid: Any = None
    avoid_add: Any = None
    avoid_clear: Any = None
    avoided: Any = None
    avoided_state: Any = None
    mask_state: Any = None
    seed: Any = None
    randomise: Any = None
    count: Any = None
    steps: Any = None
    guidance: Any = None
    size: Any = None
    takeover: Any = None
    model: Any = None
    dtype: Any = None
    offload: Any = None
    load: Any = None
    status: Any = None
    slider: Any = None
    shown: Any = None
    plain: Any = None
    guided: Any = None
    board: Any = None
    python: Any = None
    command: Any = None
    download: Any = None
    link: Any = None
    timeline: Any = None
    panel: Any = None
    last: Any = None
    place: Any = None
    opened: Any = None

    @property
    def settings(self) -> set[Any]:
        """All that a run depends on."""
        parts: Panel = self.panel
        mine = (
            self.prompt, self.negatives, self.methods, self.also, self.mask, self.avoided_state, self.mask_state, self.seed,
            self.randomise, self.count, self.steps, self.guidance, self.size, self.takeover, self.model, self.dtype, self.offload,
        )  # fmt: skip
        return {*mine, *parts.components.values()}


def layout(options: Options) -> Page:
    """Put everything in its place, inside `gr.Blocks`."""
    page, start = Page(), initial(options)
    gr.HTML(HEAD, elem_id="ng-head", padding=False)
    page.last, page.place = gr.State(None, time_to_live=3600), gr.State(0)
    page.avoided_state, page.mask_state, page.opened = gr.State([]), gr.State(None), gr.State(True)
    with gr.Row(equal_height=False, elem_id="ng-main"):
        with gr.Column(scale=5, min_width=300):
            with gr.Group(elem_id="ng-ask"):
                page.prompt = gr.Textbox(
                    start.prompt, label="A picture of", elem_id="ng-prompt", max_lines=3, lines=1, max_length=600
                )
                page.negatives = gr.Textbox(
                    start.negatives,
                    label="but no",
                    info="Several with commas; cat:0.8 for a weight, cat@0-0.4 for a part of the way.",
                    elem_id="ng-negatives",
                    max_lines=3,
                    lines=1,
                    max_length=600,
                )
                page.methods = gr.Dropdown(
                    [(name, name) for name in METHODS],
                    value=[parse_parts(text)[0].entry.name for text in start.methods],
                    multiselect=True,
                    max_choices=options.methods,
                    label="How to say no",
                    elem_id="ng-methods",
                )
            with gr.Row(elem_id="ng-buttons"):
                page.run = gr.Button("Make pictures", variant="primary", elem_id="ng-run", scale=3)
                page.stop = gr.Button(
                    "Stop", variant="stop", elem_id="ng-stop", scale=1, min_width=90, interactive=False
                )
            page.examples = gr.Examples(
                [[prompt, negatives, methods] for prompt, negatives, methods in EXAMPLES],
                [page.prompt, page.negatives, page.methods],
                label="Try",
                elem_id="ng-examples",
                cache_examples=False,
                examples_per_page=6,
                api_visibility="private",
            )
            _advanced(page, options, start)
        with gr.Column(scale=7, min_width=300):
            page.slider = gr.ImageSlider(
                label="plain | guided",
                elem_id="ng-slider",
                interactive=False,
                format="png",
                type="pil",
                max_height=660,
                buttons=["fullscreen"],
            )
            page.status = gr.HTML(elem_id="ng-status", padding=False)
            page.shown = gr.Radio([], label="Show", visible=False, elem_id="ng-shown")
            with gr.Row(elem_id="ng-pairs"):
                page.plain = _gallery("plain", "ng-plain")
                page.guided = _gallery("guided", "ng-guided")
    page.board = gr.HTML(elem_id="ng-results", padding=False)
    with gr.Tabs(elem_id="ng-tabs"):
        with gr.Tab("Copy as Python"):
            page.python = _code("python", "ng-python")
        with gr.Tab("Copy as command"):
            page.command = _code("shell", "ng-command")
        with gr.Tab("Picture and link"):
            page.download = gr.DownloadButton("Download PNG, settings inside", elem_id="ng-download", interactive=False)
            page.link = gr.Textbox(
                label="Link to these settings", elem_id="ng-link", buttons=["copy"], interactive=False
            )
        with gr.Tab("Timeline"):
            page.timeline = gr.HTML(elem_id="ng-timeline")
    return page


def _code(language: str, elem_id: str) -> Any:
    return gr.Code(
        language=language, label="Makes exactly these pictures", elem_id=elem_id, interactive=False, wrap_lines=True
    )


def _editor(label: str, elem_id: str, sources: list[str]) -> Any:
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


def _gallery(label: str, elem_id: str) -> Any:
    return gr.Gallery(
        label=label,
        elem_id=elem_id,
        columns=4,
        height="auto",
        object_fit="contain",
        allow_preview=False,
        interactive=False,
        buttons=["download"],
        format="png",
        min_width=260,
    )


def _advanced(page: Page, options: Options, start: Any) -> None:
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
