"""What happens on the page: runs that stream, stopping, choosing what is shown, loading settings."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr
from gradio.blocks import Block

from negguide.demo import board as html
from negguide.demo.carried import from_link, from_png
from negguide.demo.components import Page, Updates, Values
from negguide.demo.engine import Engine, explain
from negguide.demo.page import about, known_words
from negguide.demo.parts import from_rows, initial
from negguide.demo.pictures import dropped, enlarged, on_white, painted, png64
from negguide.demo.results import Board
from negguide.demo.settings import MASK_SIDE, PICTURE_SIDE, REFERENCES, Settings, make_settings
from negguide.demo.shown import avoided_of, pair_of, present, slide_of
from negguide.demo.view import View

PAUSE = 0.4
"""Seconds between two updates of the page, at least."""


def person_of(request: gr.Request) -> tuple[str, str]:
    """(who is asking, in which of their sessions): the name they logged in with, or their address."""
    client = request.client
    person = str(request.username or (client.host if client else "unknown"))
    return person, str(request.session_hash or f"{person} without a session")


class Handlers:
    """Connects the page with the engine."""

    def __init__(self, page: Page, engine: Engine) -> None:
        self.page, self.engine, self.options = page, engine, engine.options
        self.view = View(page)

    def connect(self, blocks: gr.Blocks) -> None:
        """Say which event does what."""
        page = self.page
        outputs: list[Block] = [
            page.status, page.slider, page.shown, page.plain, page.guided, page.board, page.python, page.command, page.download,
            page.link, page.timeline, page.last, page.place, page.run, page.stop, page.seed, page.save, page.runs, page.history,
        ]  # fmt: skip
        fields = page.settings - {page.avoided_state, page.mask_state, page.mask} | {
            page.avoided_state, page.mask_state, page.mask, page.avoided, page.table, *page.panel.groups.values(),
        }  # fmt: skip
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        running: dict[str, Any] = {**private, "concurrency_limit": None}
        quick: dict[str, Any] = {**private, "queue": False}
        typed: dict[str, Any] = {**quick, "trigger_mode": "always_last"}  # otherwise gradio drops what comes meanwhile
        for event in (page.run.click, page.prompt.submit, page.negatives.submit):
            event(self.run, page.settings | {page.runs}, outputs, **running, trigger_mode="once")
        page.examples.load_input_event.then(self.show_table, {page.negatives}, [page.table], **quick).then(
            self.show_groups, {page.methods, page.also}, [*page.panel.groups.values()], **quick
        ).then(self.run, page.settings | {page.runs}, outputs, **running)
        page.stop.click(self.halt, None, None, **quick)
        page.shown.input(self.show, {page.last, page.shown, page.place}, outputs, **typed)
        for gallery in (page.plain, page.guided):
            gallery.select(self.pick, [page.last, page.shown], [page.place, page.slider, page.download], **typed)
        for chooser in (page.methods, page.also):
            chooser.change(self.show_groups, {page.methods, page.also}, [*page.panel.groups.values()], **quick)
        page.words.click(self.say_no, {page.words, page.negatives}, [page.negatives, page.table], **quick)
        page.model.change(self.show_model, {page.model}, [page.about, page.words], **quick)
        page.negatives.input(self.show_table, {page.negatives}, [page.table], **typed)
        page.table.input(self.read_table, {page.table}, [page.negatives, page.status], **typed)
        page.add_row.click(lambda rows: [*rows, ["", 1, 0, 1]], page.table, page.table, **quick)
        page.mask_paint.click(self.paint, {page.last, page.place}, [page.mask, page.mask_state, page.status], **quick)
        page.mask_clear.click(lambda: (None, None), None, [page.mask, page.mask_state], **quick)
        page.avoid_add.click(
            self.avoid,
            {page.avoid, page.avoided_state},
            [page.avoided_state, page.avoided, page.avoid, page.status],
            **quick,
        )
        page.avoid_clear.click(lambda: ([], []), None, [page.avoided_state, page.avoided], **quick)
        page.history.input(self.recall, {page.history, page.runs}, list({*fields, *outputs}), **typed)
        page.load.upload(self.load_png, {page.load}, list({*fields, *outputs, page.load}), **quick)
        blocks.load(self.open, None, list({*fields, page.status, page.opened}), **quick).then(
            self.run_opened, page.settings | {page.opened, page.runs}, outputs, **running
        )
        blocks.unload(self.halt)

    def settings_of(self, values: Values) -> Settings:
        """The settings on the page. `ValueError` says what is wrong with them."""
        page = self.page
        mask = painted(values[page.mask])
        given: dict[str, object] = {
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

    async def run(self, values: Values, request: gr.Request) -> AsyncIterator[Updates]:
        """Make what the page asks for, telling how it goes."""
        page, job = self.page, None
        busy: Updates = {page.run: gr.update(interactive=False), page.stop: gr.update(interactive=True)}
        idle: Updates = {page.run: gr.update(interactive=True), page.stop: gr.update(interactive=False)}
        try:
            if values[page.randomise]:
                values[page.seed] = random.randrange(2**31)
            settings = await asyncio.to_thread(self.settings_of, values)
            yield {page.seed: settings.seed}
            if made_before := self.engine.known(settings):
                yield {
                    **self.view.final(made_before, request),
                    **self.view.remembered(values[page.runs], settings),
                    **idle,
                }
                return
            blank = await asyncio.to_thread(self.engine.blank, settings)
            job = self.engine.stand_in_line(blank, *person_of(request))
            yield {**self.view.start(job.news), **busy}
            before: Board | None = None
            async for board in job.follow():
                if board.state == "waiting" or board is not before:
                    yield self.view.progress(board, before, self.engine.turns.ahead(job))
                    before = board
                    await asyncio.sleep(PAUSE)
            if job.error is not None:
                raise job.error
            yield {**self.view.final(job.news, request), **self.view.remembered(values[page.runs], settings), **idle}
        except Exception as error:  # whatever went wrong, the person is told, and the buttons work again
            yield {page.status: html.status(None, error=explain(error)), **idle}
        finally:
            if job is not None and not job.done:
                job.stop()

    def halt(self, request: gr.Request) -> None:
        """Stop what this session has asked for; also where its page was closed, so that nobody waits for the pictures."""
        self.engine.turns.stop(person_of(request)[1])

    def show(self, values: Values) -> Updates:
        """Show another method."""
        board: Board | None = values[self.page.last]
        return self.view.shown(board, values[self.page.shown], values[self.page.place]) if board else {}

    def pick(self, last: Board | None, shown: str | None, event: gr.SelectData) -> list[object]:
        """Show another seed in the slider."""
        place = int(event.index)
        if last is None:
            return [0, gr.skip(), gr.skip()]
        plain, guided = pair_of(last, shown)
        files = present(guided)
        file = files[place] if place < len(files) else None
        return [place, slide_of(plain, guided, place), gr.update(value=file, interactive=file is not None)]

    def recall(self, values: Values, request: gr.Request) -> Updates:
        """A run of this session was chosen again: its settings, and its results where they are still there."""
        runs, place = values[self.page.runs] or [], values[self.page.history]
        if not isinstance(place, int) or not 0 <= place < len(runs):
            return {}
        fields = self.view.fields(runs[place])
        if board := self.engine.known(runs[place]):
            return {**fields, **self.view.final(board, request)}
        note = "These pictures are no longer kept. Make pictures makes them again, the same."
        return {**fields, **self.view.cleared(), self.page.status: html.status(None, note=note)}

    def show_groups(self, values: Values) -> Updates:
        """Show the controls of the chosen methods."""
        return self.view.groups({*(values[self.page.methods] or []), *(values[self.page.also] or [])})

    def say_no(self, values: Values) -> Updates:
        """A word was clicked: it is a negative from now on, or no longer."""
        word, text = values[self.page.words][0], (values[self.page.negatives] or "").strip().rstrip(",")
        words = [part.strip() for part in text.split(",") if part.strip()]
        left = [part for part in words if part.partition(":")[0].partition("@")[0] != word]
        negatives = ", ".join(left if len(left) < len(words) else [*words, word])
        return {self.page.negatives: negatives, **self.view.table(negatives)}

    def show_model(self, values: Values) -> Updates:
        """What there is to know of the chosen model."""
        model = values[self.page.model] or ""
        words = [[word] for word in known_words(model)]
        return {self.page.about: about(model), self.page.words: gr.Dataset(samples=words, visible=bool(words))}

    def show_table(self, values: Values) -> Updates:
        """Negatives in words -> the table."""
        return self.view.table(values[self.page.negatives] or "")

    def read_table(self, values: Values) -> Updates:
        """The table -> negatives in words."""
        try:
            return {self.page.negatives: from_rows(values[self.page.table]), self.page.status: html.status(None)}
        except ValueError as error:
            return {self.page.status: html.status(None, error=str(error))}

    def paint(self, values: Values) -> Updates:
        """Put the plain picture under the brush."""
        board: Board | None = values[self.page.last]
        plain = board.results[0].images if board else ()
        if not plain:
            return {self.page.status: html.status(None, error="make pictures first; then there is one to paint on")}
        place = min(values[self.page.place] or 0, len(plain) - 1)
        picture = enlarged(plain[place], 384).convert("RGBA")
        return {self.page.mask: {"background": picture, "layers": [], "composite": picture}, self.page.mask_state: None}

    def avoid(self, values: Values) -> Updates:
        """Add the picture in the editor, with what is painted, to those to avoid."""
        page, editor, pictures = self.page, values[self.page.avoid], list(values[self.page.avoided_state] or [])
        try:
            picture, mask = dropped((editor or {}).get("background")), painted(editor)
        except ValueError as error:
            return {page.status: html.status(None, error=str(error)), page.avoid: None}
        if picture is None:
            return {page.status: html.status(None, error="drop a picture first")}
        if len(pictures) >= REFERENCES:
            return {page.status: html.status(None, error=f"at most {REFERENCES} pictures can be avoided at once")}
        avoided = {"png": png64(on_white(picture), PICTURE_SIDE), "mask": png64(mask, MASK_SIDE) if mask else None}
        pictures.append({key: value for key, value in avoided.items() if value is not None})
        return {
            page.avoided_state: pictures,
            page.avoided: avoided_of(pictures),
            page.avoid: None,
            page.status: html.status(None),
        }

    def load_png(self, values: Values) -> Updates:
        """Settings from a PNG."""
        try:
            updates = self.view.fields(from_png(values[self.page.load] or b"", self.options))
        except Exception as error:  # a stranger's file may break anything; the page says so and goes on
            return {self.page.status: html.status(None, error=explain(error)), self.page.load: None}
        note = "The settings of the picture are on the page. Make pictures to see them."
        return {**updates, **self.view.cleared(), self.page.status: html.status(None, note=note), self.page.load: None}

    def open(self, request: gr.Request) -> Updates:
        """The page was opened, perhaps by a link to settings."""
        text = dict(request.query_params).get("s")
        try:
            settings = from_link(text, self.options) if text else initial(self.options)
            return {**self.view.fields(settings), self.page.status: html.status(None), self.page.opened: True}
        except Exception as error:  # a stranger's link may break anything; the page says so and runs nothing over it
            reason = f"The link cannot be used: {explain(error)}"
            return {self.page.status: html.status(None, error=reason), self.page.opened: False}

    async def run_opened(self, values: Values, request: gr.Request) -> AsyncIterator[Updates]:
        """Make the first pictures of a page that was opened well."""
        if not values[self.page.opened]:
            yield {self.page.run: gr.update(interactive=True)}
            return
        async for updates in self.run(values, request):
            yield updates
