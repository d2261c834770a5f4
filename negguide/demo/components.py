"""The components of the page that handlers speak of."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.helpers import Examples

from negguide.demo.parts import Panel

Values = dict[Block, Any]
"""What an event hands to its handler: component -> what it holds."""
Updates = dict[Block, object]
"""What a handler hands back: component -> what it holds from now on, or an update of it."""


class Page:
    """The components that handlers speak of; `page.layout` makes and sets them."""

    prompt: gr.Textbox
    negatives: gr.Textbox
    methods: gr.Dropdown
    also: gr.Dropdown
    run: gr.Button
    stop: gr.Button
    examples: Examples
    table: gr.Dataframe
    add_row: gr.Button
    mask: gr.ImageEditor
    mask_paint: gr.Button
    mask_clear: gr.Button
    avoid: gr.ImageEditor
    avoid_add: gr.Button
    avoid_clear: gr.Button
    avoided: gr.Gallery
    avoided_state: gr.State
    mask_state: gr.State
    seed: gr.Number
    randomise: gr.Checkbox
    count: gr.Slider
    steps: gr.Number
    guidance: gr.Number
    size: gr.Textbox
    takeover: gr.Checkbox
    model: gr.Dropdown
    dtype: gr.Dropdown
    offload: gr.Dropdown
    load: gr.File
    about: gr.HTML
    words: gr.Dataset
    status: gr.HTML
    slider: gr.ImageSlider
    shown: gr.Radio
    plain: gr.Gallery
    guided: gr.Gallery
    board: gr.HTML
    python: gr.Code
    command: gr.Code
    download: gr.DownloadButton
    link: gr.Textbox
    timeline: gr.HTML
    panel: Panel
    last: gr.State
    place: gr.State
    opened: gr.State
    save: gr.DownloadButton
    runs: gr.State
    history: gr.Dropdown

    @property
    def settings(self) -> set[Block]:
        """All that a run depends on."""
        fields = (
            self.prompt, self.negatives, self.methods, self.also, self.mask, self.avoided_state, self.mask_state, self.seed,
            self.randomise, self.count, self.steps, self.guidance, self.size, self.takeover, self.model, self.dtype, self.offload,
        )  # fmt: skip
        return {*fields, *self.panel.components.values()}
