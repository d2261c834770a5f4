"""What the page shows: updates of its components for settings, and for a comparison while it is made and when it is done."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import gradio as gr

from negguide.demo import board as html
from negguide.demo.carried import to_link
from negguide.demo.components import Page, Updates
from negguide.demo.history import choices, with_run
from negguide.demo.parts import to_rows
from negguide.demo.pictures import enlarged, from_png64
from negguide.demo.results import Board
from negguide.demo.settings import Settings
from negguide.demo.shown import avoided_of, first_of, pair_of, present, right_first, slide_of, telling
from negguide.experiment.arms import PLAIN

LIVE = 384
"""Pixels of the slider while pictures form."""


class View:
    """Draws on the page."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def table(self, negatives: str) -> Updates:
        """Negatives in words -> the table; what cannot be read yet leaves it as it is."""
        try:
            return {self.page.table: to_rows(negatives)}
        except ValueError:
            return {self.page.table: gr.skip()}

    def fields(self, settings: Settings) -> Updates:
        """What the page's fields hold with these settings."""
        page = self.page
        chosen, also, values = page.panel.updates(settings.methods)
        pictures = [picture.model_dump(exclude_none=True) for picture in settings.pictures]
        mask = None
        if settings.mask:
            shape = from_png64(settings.mask).convert("L").resize((384, 384))
            layer = shape.convert("RGBA")
            layer.putalpha(shape)
            mask = {"background": None, "layers": [layer], "composite": layer}
        return {
            page.prompt: settings.prompt, page.negatives: settings.negatives, page.methods: chosen, page.also: also, **values,
            page.mask: mask, page.mask_state: settings.mask, page.avoided_state: pictures, page.avoided: avoided_of(pictures),
            page.seed: settings.seed, page.randomise: False, page.count: settings.count, page.steps: settings.steps,
            page.guidance: settings.guidance, page.size: settings.size or "", page.takeover: settings.takeover,
            page.model: settings.model, page.dtype: settings.dtype, page.offload: settings.offload,
            **self.table(settings.negatives), **self.groups([*chosen, *also]),
        }  # fmt: skip

    def groups(self, names: Collection[str]) -> Updates:
        """The controls of the methods of these names are shown, the others hidden."""
        return {group: gr.update(visible=name in names) for name, group in self.page.panel.groups.items()}

    def start(self, board: Board) -> Updates:
        """A comparison begins."""
        page = self.page
        labels = [result.label for result in board.results[1:]] or [PLAIN]
        return {
            **self.cleared(labels[0]),
            page.status: html.status(board),
            page.board: html.results(board),
            page.shown: gr.update(choices=labels, value=labels[0], visible=len(labels) > 1),
        }

    def cleared(self, label: str = "guided") -> Updates:
        """No results: old ones never stand beside new settings."""
        page = self.page
        return {
            page.last: None,
            page.slider: gr.update(value=None, label=f"plain | {label}"),
            page.plain: [],
            page.guided: gr.update(value=[], label=label),
            page.board: "",
            page.shown: gr.update(visible=False),
            page.python: "",
            page.command: "",
            page.link: "",
            page.timeline: html.timeline(None, ()),
            page.download: gr.update(value=None, interactive=False),
            page.save: gr.update(value=None, interactive=False),
        }

    def remembered(self, runs: Sequence[Settings], settings: Settings) -> Updates:
        """A run has come to its end: it can be chosen again."""
        page, latest = self.page, with_run(runs, settings)
        shown = gr.update(choices=choices(latest), value=0, visible=len(latest) > 1)
        return {page.runs: latest, page.history: shown}

    def progress(self, board: Board, before: Board | None, ahead: int) -> Updates:
        """What has changed since `before`; `ahead` others wait before it."""
        page = self.page
        updates: Updates = {page.status: html.status(board, ahead)}
        if before is not None and _forms(board) == _forms(before):
            return updates
        updates[page.board] = html.results(board)
        plain, guided = pair_of(board, None)
        right = next((result for result in board.results[1:] if result.state == "running"), guided)
        left, other = first_of(plain), first_of(right) or first_of(plain)
        seen = before is not None and (first_of(before.results[0]), right_first(before)) == (left, right_first(board))
        if left is not None and not seen:
            slide = (enlarged(left, LIVE), enlarged(other or left, LIVE))
            updates[page.slider] = gr.update(value=slide, label=f"plain | {right.label}{'' if other else ', to come'}")
        return updates

    def final(self, board: Board, request: gr.Request) -> Updates:
        """A comparison is done, stopped or failed."""
        page = self.page
        labels = [result.label for result in board.results[1:]] or [PLAIN]
        label = next((result.label for result in board.results[1:] if result.state == "done"), labels[0])
        place = telling(board, label)
        link, whole = to_link(board.settings)
        packed = board.archive if board.archive and Path(board.archive).is_file() else None
        updates = self.shown(board, label, place)
        if board.state == "stopped" and slide_of(*pair_of(board, label), place) is None:
            del updates[page.slider]  # what was to be seen of it when it was stopped stays
        inner = getattr(request, "request", None)
        base = str(inner.url).split("/gradio_api/")[0] if inner else ""
        return {
            **updates,
            page.last: board,
            page.place: place,
            page.status: html.status(board),
            page.board: html.results(board),
            page.shown: gr.update(choices=labels, value=label, visible=len(labels) > 1),
            page.save: gr.update(value=packed, interactive=packed is not None),
            page.link: gr.update(
                value=f"{base}/?s={link}",
                label="Link to these settings" if whole else "Link to these settings, without the pictures (too large)",
            ),
        }

    def shown(self, board: Board, label: str | None, place: int) -> Updates:
        """The pictures, code and timeline of one method (the first one without a label), the slider at one picture."""
        page = self.page
        plain, guided = pair_of(board, label)
        place = min(place, max(0, len(plain.images) - 1))
        files, slide = present(guided), slide_of(plain, guided, place)
        file = files[place] if place < len(files) else None
        return {
            page.slider: gr.update(value=slide, label=f"plain | {guided.label}"),
            page.plain: present(plain),
            page.guided: gr.update(value=files, label=guided.label),
            page.python: guided.python,
            page.command: guided.command,
            page.download: gr.update(value=file, interactive=file is not None),
            page.timeline: html.timeline(guided, board.settings.seeds),
        }


def _forms(board: Board) -> list[tuple[str, tuple[str, ...], str]]:
    """What of a comparison can be seen to change, its steps apart: the page is drawn anew only for that."""
    return [(result.state, result.previews, result.error) for result in board.results]
