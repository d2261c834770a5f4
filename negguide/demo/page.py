"""The page: what stands where. What happens is in `handlers`."""

from __future__ import annotations

from html import escape
from typing import Literal

import gradio as gr

from negguide.demo.advanced import advanced
from negguide.demo.components import Page
from negguide.demo.controls import offered
from negguide.demo.options import Options
from negguide.demo.parts import initial
from negguide.experiment.arms import parse_parts
from negguide.names import BundledModel, bundled_model

HEAD = """<h1>Say <em>no</em> to a diffusion model</h1>
<p>One prompt, one thing you do not want, the same seed: see what each kind of negative does. Nothing is retrained.</p>"""
EXAMPLES = (
    ("a pet on grass", "cat", ["recommended"]),
    ("a face with a hat", "glasses", ["negative", "recommended"]),
    ("a vehicle", "watermark", ["negative", "signed"]),
    ("a building in snow", "house", ["recommended", "perp_neg"]),
    ("a pet on grass", "", ["negtome"]),
    ("a pet in a room", "", ["adaptive"]),
)
"""Prompt, negatives, methods: all made for the Toybox."""


def layout(options: Options) -> Page:
    """Put everything in its place, inside `gr.Blocks`."""
    page, start = Page(), initial(options)
    gr.HTML(HEAD, elem_id="ng-head", padding=False)
    page.about = gr.HTML(about(start.model), elem_id="ng-about", padding=False)
    page.last, page.place = gr.State(None, time_to_live=3600), gr.State(0)
    page.avoided_state, page.mask_state, page.opened = gr.State([]), gr.State(None), gr.State(True)
    page.runs = gr.State([])
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
                    [(name, name) for name in offered()],
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
            page.words = gr.Dataset(
                components=[gr.Textbox(visible=False)],
                samples=[[word] for word in known_words(start.model)],
                label="Words it knows: click one to say no to it",
                elem_id="ng-words",
                samples_per_page=200,
                visible=bool(known_words(start.model)),
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
            advanced(page, options, start)
        with gr.Column(scale=7, min_width=300):
            page.status = gr.HTML(elem_id="ng-status", padding=False)
            page.history = gr.Dropdown(
                [], label="Earlier in this session: choose one to see it again", visible=False, elem_id="ng-history"
            )
            page.board = gr.HTML(elem_id="ng-results", padding=False)
            page.shown = gr.Radio([], label="Show", visible=False, elem_id="ng-shown")
            page.slider = gr.ImageSlider(
                label="plain | guided",
                elem_id="ng-slider",
                interactive=False,
                format="png",
                type="pil",
                max_height=480,
                buttons=["fullscreen"],
            )
            with gr.Row(elem_id="ng-pairs"):
                page.plain = _gallery("plain", "ng-plain")
                page.guided = _gallery("guided", "ng-guided")
    with gr.Tabs(elem_id="ng-tabs"):
        with gr.Tab("Copy as Python"):
            page.python = _code("python", "ng-python")
        with gr.Tab("Copy as command"):
            page.command = _code("shell", "ng-command")
        with gr.Tab("Picture and link"):
            page.download = gr.DownloadButton("Download PNG, settings inside", elem_id="ng-download", interactive=False)
            page.save = gr.DownloadButton("Save all pictures and numbers (zip)", elem_id="ng-save", interactive=False)
            page.link = gr.Textbox(
                label="Link to these settings", elem_id="ng-link", buttons=["copy"], interactive=False
            )
        with gr.Tab("Timeline"):
            page.timeline = gr.HTML(elem_id="ng-timeline")
    return page


def about(model: str) -> str:
    """What a bundled model draws, for people who have never seen it; empty for others."""
    bundled = _bundled(model)
    return f'<p class="ng-about">{escape(bundled.bundle.about)}</p>' if bundled and bundled.bundle.about else ""


def known_words(model: str) -> list[str]:
    """The words of a bundled model's small world; none for models that may know any."""
    bundled = _bundled(model)
    groups = bundled.bundle.words() if bundled and bundled.bundle.words else {}
    return list(dict.fromkeys(word for words in groups.values() for word in words))


def _bundled(model: str) -> BundledModel | None:
    try:
        return bundled_model(model)
    except ValueError:
        return None


def _code(language: Literal["python", "shell"], elem_id: str) -> gr.Code:
    return gr.Code(
        language=language,
        label="Makes exactly these pictures",
        elem_id=elem_id,
        interactive=False,
        wrap_lines=True,
        max_lines=24,
    )


def _gallery(label: str, elem_id: str) -> gr.Gallery:
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
