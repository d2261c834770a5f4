"""The components of the page that handlers speak of."""

from __future__ import annotations

import dataclasses
from typing import Any

from negguide.demo.parts import Panel


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
    about: Any = None
    words: Any = None
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
    save: Any = None
    runs: Any = None
    history: Any = None

    @property
    def settings(self) -> set[Any]:
        """All that a run depends on."""
        parts: Panel = self.panel
        fields = (
            self.prompt, self.negatives, self.methods, self.also, self.mask, self.avoided_state, self.mask_state, self.seed,
            self.randomise, self.count, self.steps, self.guidance, self.size, self.takeover, self.model, self.dtype, self.offload,
        )  # fmt: skip
        return {*fields, *parts.components.values()}
