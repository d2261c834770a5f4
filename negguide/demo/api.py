"""Named endpoints for programs and tools for agents (MCP): pictures with numbers, as on the command line."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

from negguide.commands.methods import table
from negguide.demo.engine import Engine, explain
from negguide.demo.handlers import person_of
from negguide.demo.results import Board, Result
from negguide.demo.settings import make_settings
from negguide.demo.turns import Full


def add_api(engine: Engine) -> None:
    """Add the endpoints `/generate`, `/compare`, `/methods`, `/stop`, inside `gr.Blocks`."""

    async def made(values: dict[str, Any], request: gr.Request) -> Board:
        given = {key: value for key, value in values.items() if value not in (None, "")}
        given = {"negatives": "", **given}
        try:
            settings = make_settings(given, engine.options)
            if board := engine.known(settings):
                return board
            job = engine.submit(settings, *person_of(request))
        except (Full, ValueError, TypeError) as error:
            raise gr.Error(explain(error), print_exception=False) from error
        async for _ in job.follow():
            pass
        if job.error is not None or job.news.state != "done":
            reason = explain(job.error) if job.error else job.news.message
            raise gr.Error(reason, print_exception=False)
        found: Board = job.news
        return found

    async def generate(
        prompt: str,
        negatives: str,
        method: str,
        seed: int,
        steps: int | None,
        guidance: float | None,
        model: str,
        request: gr.Request,
    ) -> tuple[str, dict[str, Any]]:
        """Make one picture of a prompt without what is not wanted.

        Args:
            prompt: what the picture should show, such as "a pet on grass"
            negatives: what it should not show, such as "cat, hat:0.8"; may be empty
            method: how to say no, such as perp_neg or negative:weight=1.5; plain for no method
            seed: the same seed gives the same picture
            steps: steps of sampling; empty for the model's own
            guidance: guidance scale; empty for the model's own
            model: toybox, or another one that is offered here

        Returns:
            The picture, and its measurements with the Python code and the command that make it again.
        """
        methods = [] if method in ("", "plain") else [method]
        board = await made(
            {
                "prompt": prompt,
                "negatives": negatives,
                "methods": methods,
                "seed": seed,
                "count": 1,
                "steps": steps,
                "guidance": guidance,
                "model": model,
            },
            request,
        )
        result = board.results[-1]
        if result.state != "done":
            raise gr.Error(result.error, print_exception=False)
        return result.files[0], _told(result)

    async def compare(
        prompt: str,
        negatives: str,
        methods: str,
        seed: int,
        count: int,
        steps: int | None,
        model: str,
        request: gr.Request,
    ) -> tuple[list[tuple[str, str]], dict[str, Any]]:
        """Make the same pictures with several methods from the same seeds, and measure what each did.

        Args:
            prompt: what the pictures should show
            negatives: what they should not show, such as "cat, hat:0.8"
            methods: names of methods with spaces between, such as "negative perp_neg"; plain is always there
            seed: the first seed
            count: how many pictures of each method
            steps: steps of sampling; empty for the model's own
            model: toybox, or another one that is offered here

        Returns:
            The pictures with their captions, and the measurements of each method.
        """
        board = await made(
            {
                "prompt": prompt,
                "negatives": negatives,
                "methods": methods.split(),
                "seed": seed,
                "count": count,
                "steps": steps,
                "model": model,
            },
            request,
        )
        pictures = [
            (file, f"{result.label}, seed {seed}")
            for result in board.results
            for file, seed in zip(result.files, board.settings.seeds, strict=False)
        ]
        return pictures, {result.label: _told(result) for result in board.results}

    def methods() -> list[dict[str, str]]:
        """List the methods: what each does, what it costs, what it needs."""
        return table()

    def stop(request: gr.Request) -> int:
        """Stop what this session has asked for; the number of requests that were stopped."""
        return len(engine.turns.stop(person_of(request)[1]))

    with gr.Group(visible=False):
        prompt, negatives, method, names = (gr.Textbox() for _ in range(4))
        seed, count = gr.Number(0, precision=0), gr.Number(1, precision=0)
        steps, guidance = gr.Number(None, precision=0), gr.Number(None)
        model = gr.Textbox(engine.options.model)
        picture, pictures, told = gr.Image(format="png", type="filepath"), gr.Gallery(format="png"), gr.JSON()
        stopped = gr.Number(precision=0)
        button = gr.Button()
    button.click(
        generate,
        [prompt, negatives, method, seed, steps, guidance, model],
        [picture, told],
        api_name="generate",
        concurrency_limit=None,
    )
    button.click(
        compare,
        [prompt, negatives, names, seed, count, steps, model],
        [pictures, told],
        api_name="compare",
        concurrency_limit=None,
    )
    button.click(methods, None, told, api_name="methods")
    button.click(stop, None, stopped, api_name="stop", queue=False)


def _told(result: Result) -> dict[str, Any]:
    told = {
        "scores": dict(result.scores),
        "presence": dict(result.presence),
        "seen": list(result.notes),
        "warnings": list(result.warnings),
        "error": result.error,
        "python": result.python,
        "command": result.command,
    }
    found: dict[str, Any] = json.loads(json.dumps(told))
    return found
