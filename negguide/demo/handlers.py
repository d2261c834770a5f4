"""What happens on the page: runs that stream, stopping, choosing what is shown, loading settings."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from typing import Any

import gradio as gr

from negguide.compare.arms import PLAIN
from negguide.demo import board as html
from negguide.demo.carried import from_link, from_png, to_link
from negguide.demo.engine import Engine, explain
from negguide.demo.page import Page
from negguide.demo.parts import from_rows, initial, to_rows
from negguide.demo.pictures import enlarged, from_png64, painted, png64
from negguide.demo.results import Board
from negguide.demo.settings import MASK_SIDE, PICTURE_SIDE, REFERENCES, Settings, make_settings
from negguide.demo.shown import avoided_of, first_of, pair_of, right_first, slide_of, telling
from negguide.demo.turns import Full

Updates = dict[Any, Any]
PAUSE = 0.4
"""Seconds between two updates of the page, at least."""
LIVE = 384
"""Pixels of the slider while pictures form."""


def person_of(request: gr.Request) -> tuple[str, str]:
    """(who is asking, in which of their sessions): the name they logged in with, or their address."""
    host = request.client.host if request.client else "unknown"
    return str(request.username or host), str(request.session_hash or "")


class Handlers:
    """Connects the page with the engine."""

    def __init__(self, page: Page, engine: Engine) -> None:
        self.page, self.engine, self.options = page, engine, engine.options

    def connect(self, blocks: gr.Blocks) -> None:
        """Say which event does what."""
        page = self.page
        outputs = {
            page.status, page.slider, page.shown, page.plain, page.guided, page.board, page.python, page.command, page.download,
            page.link, page.timeline, page.last, page.place, page.run, page.stop, page.seed,
        }  # fmt: skip
        fields = page.settings - {page.avoided_state, page.mask_state, page.mask} | {
            page.avoided_state, page.mask_state, page.mask, page.avoided, page.table, *page.panel.groups.values(),
        }  # fmt: skip
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        running: dict[str, Any] = {**private, "concurrency_limit": None}
        quick: dict[str, Any] = {**private, "queue": False}
        typed: dict[str, Any] = {**quick, "trigger_mode": "always_last"}  # otherwise gradio drops what comes meanwhile
        for event in (page.run.click, page.prompt.submit, page.negatives.submit):
            event(self.run, page.settings, outputs, **running, trigger_mode="once")
        page.examples.load_input_event.then(self.show_table, {page.negatives}, {page.table}, **quick).then(
            self.show_groups, {page.methods, page.also}, set(page.panel.groups.values()), **quick
        ).then(self.run, page.settings, outputs, **running)
        page.stop.click(self.halt, None, None, **quick)
        page.shown.input(self.show, {page.last, page.shown, page.place}, outputs, **typed)
        for gallery in (page.plain, page.guided):
            gallery.select(self.pick, [page.last, page.shown], [page.place, page.slider, page.download], **typed)
        for chooser in (page.methods, page.also):
            chooser.change(self.show_groups, {page.methods, page.also}, set(page.panel.groups.values()), **quick)
        page.negatives.input(self.show_table, {page.negatives}, {page.table}, **typed)
        page.table.input(self.read_table, {page.table}, {page.negatives, page.status}, **typed)
        page.add_row.click(lambda rows: [*rows, ["", 1, 0, 1]], page.table, page.table, **quick)
        page.mask_paint.click(self.paint, {page.last, page.place}, {page.mask, page.mask_state, page.status}, **quick)
        page.mask_clear.click(lambda: (None, None), None, [page.mask, page.mask_state], **quick)
        page.avoid_add.click(
            self.avoid,
            {page.avoid, page.avoided_state},
            {page.avoided_state, page.avoided, page.avoid, page.status},
            **quick,
        )
        page.avoid_clear.click(lambda: ([], []), None, [page.avoided_state, page.avoided], **quick)
        page.load.upload(self.load_png, {page.load}, {*fields, page.status, page.load}, **quick)
        blocks.load(self.open, None, {*fields, page.status}, **quick).then(self.run, page.settings, outputs, **running)
        blocks.unload(self.leave)

    def settings_of(self, values: Mapping[Any, Any]) -> Settings:
        """The settings on the page. `ValueError` says what is wrong with them."""
        page = self.page
        mask = painted(values[page.mask])
        given: dict[str, Any] = {
            "prompt": values[page.prompt] or "",
            "negatives": values[page.negatives] or "",
            "methods": page.panel.texts(values[page.methods] or [], values[page.also] or [], values),
            "mask": png64(mask, MASK_SIDE) if mask else values[page.mask_state],
            "pictures": tuple(values[page.avoided_state] or ()),
            "seed": values[page.seed] if values[page.seed] is not None else 0,
            "count": values[page.count],
            "steps": values[page.steps],
            "guidance": values[page.guidance],
            "size": (values[page.size] or "").strip() or None,
            "takeover": bool(values[page.takeover]),
            "model": values[page.model] or "",
            "dtype": values[page.dtype],
            "offload": values[page.offload],
        }
        return make_settings(given, self.options)

    async def run(self, values: dict[Any, Any], request: gr.Request) -> AsyncIterator[Updates]:
        """Make what the page asks for, telling how it goes."""
        page, job = self.page, None
        busy = {page.run: gr.update(interactive=False), page.stop: gr.update(interactive=True)}
        idle = {page.run: gr.update(interactive=True), page.stop: gr.update(interactive=False)}
        try:
            if values[page.randomise]:
                values[page.seed] = random.randrange(2**31)
            settings = self.settings_of(values)
            yield {page.seed: settings.seed}
            if known := self.engine.known(settings):
                yield {**self._final(known, request), **idle}
                return
            job = self.engine.submit(settings, *person_of(request))
            yield {**self._start(job.news), **busy}
            before: Board | None = None
            async for board in job.follow():
                if board.state == "waiting" or board is not before:
                    yield self._progress(board, before, self.engine.turns.ahead(job))
                    before = board
                    await asyncio.sleep(PAUSE)
            if job.error is not None:
                raise job.error
            yield {**self._final(job.news, request), **idle}
        except Full as error:
            yield {page.status: html.status(None, error=str(error)), **idle}
        except (ValueError, TypeError) as error:
            yield {page.status: html.status(None, error=explain(error)), **idle}
        finally:
            if job is not None and not job.done:
                job.stop()

    def halt(self, request: gr.Request) -> None:
        """Stop what this session has asked for."""
        self.engine.turns.stop(person_of(request)[1])

    def leave(self, request: gr.Request) -> None:
        """The page was closed: nobody waits for its pictures."""
        self.engine.turns.stop(person_of(request)[1])

    def show(self, values: dict[Any, Any]) -> Updates:
        """Show another method."""
        board: Board | None = values[self.page.last]
        return self._shown(board, values[self.page.shown], values[self.page.place]) if board else {}

    def pick(self, last: Board | None, shown: str | None, event: gr.SelectData) -> list[Any]:
        """Show another seed in the slider."""
        place = int(event.index)
        if last is None:
            return [0, gr.skip(), gr.skip()]
        plain, guided = pair_of(last, shown)
        file = guided.files[place] if place < len(guided.files) else None
        return [place, slide_of(plain, guided, place), gr.update(value=file, interactive=file is not None)]

    def show_groups(self, values: dict[Any, Any]) -> Updates:
        """Show the controls of the chosen methods."""
        chosen = {*(values[self.page.methods] or []), *(values[self.page.also] or [])}
        return {group: gr.update(visible=name in chosen) for name, group in self.page.panel.groups.items()}

    def show_table(self, values: dict[Any, Any]) -> Updates:
        """Negatives in words -> the table; what cannot be read yet leaves it as it is."""
        try:
            return {self.page.table: to_rows(values[self.page.negatives] or "")}
        except ValueError:
            return {self.page.table: gr.skip()}

    def read_table(self, values: dict[Any, Any]) -> Updates:
        """The table -> negatives in words."""
        try:
            return {self.page.negatives: from_rows(values[self.page.table]), self.page.status: html.status(None)}
        except ValueError as error:
            return {self.page.status: html.status(None, error=str(error))}

    def paint(self, values: dict[Any, Any]) -> Updates:
        """Put the plain picture under the brush."""
        board: Board | None = values[self.page.last]
        plain = board.results[0].images if board else ()
        if not plain:
            return {self.page.status: html.status(None, error="make pictures first; then there is one to paint on")}
        place = min(values[self.page.place] or 0, len(plain) - 1)
        picture = enlarged(plain[place], 384).convert("RGBA")
        return {self.page.mask: {"background": picture, "layers": [], "composite": picture}, self.page.mask_state: None}

    def avoid(self, values: dict[Any, Any]) -> Updates:
        """Add the picture in the editor, with what is painted, to those to avoid."""
        page, editor, known = self.page, values[self.page.avoid], list(values[self.page.avoided_state] or [])
        picture = (editor or {}).get("background")
        if picture is None:
            return {page.status: html.status(None, error="drop a picture first")}
        if len(known) >= REFERENCES:
            return {page.status: html.status(None, error=f"at most {REFERENCES} pictures can be avoided at once")}
        mask = painted(editor)
        one = {"png": png64(picture.convert("RGB"), PICTURE_SIDE), "mask": png64(mask, MASK_SIDE) if mask else None}
        known.append({key: value for key, value in one.items() if value is not None})
        return {
            page.avoided_state: known,
            page.avoided: avoided_of(known),
            page.avoid: None,
            page.status: html.status(None),
        }

    def load_png(self, values: dict[Any, Any]) -> Updates:
        """Settings from a PNG."""
        try:
            found = self._fields(from_png(values[self.page.load] or b"", self.options))
        except (ValueError, TypeError) as error:
            return {self.page.status: html.status(None, error=explain(error)), self.page.load: None}
        return {**found, self.page.status: html.status(None), self.page.load: None}

    def open(self, request: gr.Request) -> Updates:
        """The page was opened, perhaps by a link to settings."""
        text = dict(request.query_params).get("s")
        try:
            settings = from_link(text, self.options) if text else initial(self.options)
            return {**self._fields(settings), self.page.status: html.status(None)}
        except (ValueError, TypeError) as error:
            return {self.page.status: html.status(None, error=explain(error))}

    def _fields(self, settings: Settings) -> Updates:
        page = self.page
        chosen, also, values = page.panel.updates(settings.methods)
        known = [one.model_dump(exclude_none=True) for one in settings.pictures]
        mask = None
        if settings.mask:
            shape = from_png64(settings.mask).convert("L").resize((384, 384))
            layer = shape.convert("RGBA")
            layer.putalpha(shape)
            mask = {"background": None, "layers": [layer], "composite": layer}
        return {
            page.prompt: settings.prompt, page.negatives: settings.negatives, page.methods: chosen, page.also: also, **values,
            page.mask: mask, page.mask_state: settings.mask, page.avoided_state: known, page.avoided: avoided_of(known),
            page.seed: settings.seed, page.randomise: False, page.count: settings.count, page.steps: settings.steps,
            page.guidance: settings.guidance, page.size: settings.size or "", page.takeover: settings.takeover,
            page.model: settings.model, page.dtype: settings.dtype, page.offload: settings.offload,
            **self.show_table({page.negatives: settings.negatives}), **self._groups([*chosen, *also]),
        }  # fmt: skip

    def _groups(self, names: list[str]) -> Updates:
        return {group: gr.update(visible=name in names) for name, group in self.page.panel.groups.items()}

    def _start(self, board: Board) -> Updates:
        page = self.page
        labels = [result.label for result in board.results[1:]] or [PLAIN]
        return {
            page.status: html.status(board),
            page.board: html.results(board),
            page.shown: gr.update(choices=labels, value=labels[0], visible=len(labels) > 1),
            page.download: gr.update(interactive=False),
        }

    def _progress(self, board: Board, before: Board | None, ahead: int) -> Updates:
        page = self.page
        found: Updates = {page.status: html.status(board, ahead)}
        if before is not None and _forms(board) == _forms(before):
            return found
        found[page.board] = html.results(board)
        plain, guided = pair_of(board, None)
        right = next((one for one in board.results[1:] if one.state == "running"), guided)
        left, other = first_of(plain), first_of(right) or first_of(plain)
        seen = before is not None and (first_of(before.results[0]), right_first(before)) == (left, right_first(board))
        if left is not None and not seen:
            found[page.slider] = (enlarged(left, LIVE), enlarged(other or left, LIVE))
        return found

    def _final(self, board: Board, request: gr.Request) -> Updates:
        page = self.page
        labels = [result.label for result in board.results[1:]] or [PLAIN]
        label = next((result.label for result in board.results[1:] if result.state == "done"), labels[0])
        place = telling(board, label)
        link, whole = to_link(board.settings)
        found = self._shown(board, label, place)
        base = str(request.request.url).split("/gradio_api/")[0] if getattr(request, "request", None) else ""
        return {
            **found,
            page.last: board,
            page.place: place,
            page.status: html.status(board),
            page.board: html.results(board),
            page.shown: gr.update(choices=labels, value=label, visible=len(labels) > 1),
            page.link: gr.update(
                value=f"{base}/?s={link}",
                label="Link to these settings" if whole else "Link to these settings, without the pictures (too large)",
            ),
        }

    def _shown(self, board: Board, label: str | None, place: int) -> Updates:
        page = self.page
        plain, guided = pair_of(board, label)
        place = min(place, max(0, len(plain.images) - 1))
        file = guided.files[place] if place < len(guided.files) else None
        slide = slide_of(plain, guided, place)
        return {
            page.slider: gr.update(value=slide, label=f"plain | {guided.label}") if slide else gr.skip(),
            page.plain: list(plain.files),
            page.guided: gr.update(value=list(guided.files), label=guided.label),
            page.python: guided.python,
            page.command: guided.command,
            page.download: gr.update(value=file, interactive=file is not None),
            page.timeline: html.timeline(guided, board.settings.seeds),
        }


def _forms(board: Board) -> list[tuple[str, tuple[str, ...], str]]:
    """What of a comparison can be seen to change, its steps apart: the page is drawn anew only for that."""
    return [(result.state, result.previews, result.error) for result in board.results]
