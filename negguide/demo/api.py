"""Named endpoints for programs: pictures with numbers, as on the command line."""

from __future__ import annotations

from typing import Any

import gradio as gr

from negguide.demo.asking import ask, many_methods, one_method
from negguide.demo.engine import Engine, explain
from negguide.demo.handlers import person_of
from negguide.demo.results import Board, in_json_types
from negguide.methods.listing import table


def add_api(engine: Engine) -> None:
    """Add the endpoints `/generate`, `/compare`, `/methods`, `/stop`, inside `gr.Blocks`."""

    async def asked(values: dict[str, Any], request: gr.Request) -> Board:
        try:
            return await ask(engine, values, *person_of(request))
        except (ValueError, TypeError) as error:
            raise gr.Error(explain(error), print_exception=False) from error

    async def generate(
        request: gr.Request,
        prompt: str,
        negatives: str,
        method: str | None = None,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        model: str | None = None,
    ) -> tuple[str, dict[str, Any]]:
        """Make one picture of a prompt without what is not wanted.

        Args:
            prompt: what the picture should show, such as "a pet on grass"
            negatives: what it should not show, such as "cat, hat:0.8"; may be empty
            method: how to say no, such as perp_neg:weight=2; plain for none; empty: recommended if there are negatives
            seed: the same seed gives the same picture
            steps: steps of sampling; empty for the model's own
            guidance: guidance scale; empty for the model's own
            model: toybox, or another one that is offered here

        Returns:
            The picture, and its measurements with the Python code and the command that make it again.
        """
        values = {
            "prompt": prompt,
            "negatives": negatives,
            "methods": one_method(method, negatives),
            "seed": seed,
            "count": 1,
        }
        board = await asked({**values, "steps": steps, "guidance": guidance, "model": model}, request)
        result = board.results[-1]
        if result.state != "done":
            raise gr.Error(result.error, print_exception=False)
        return result.files[0], in_json_types(result, board)

    async def compare(
        request: gr.Request,
        prompt: str,
        negatives: str,
        methods: str | None = None,
        seed: int = 0,
        count: int = 1,
        steps: int | None = None,
        model: str | None = None,
        guidance: float | None = None,
    ) -> tuple[list[tuple[str, str]], dict[str, Any]]:
        """Make the same pictures with several methods from the same seeds, and measure what each did.

        Args:
            prompt: what the pictures should show
            negatives: what they should not show, such as "cat, hat:0.8"
            methods: names with spaces between, such as "negative recommended"; plain is always there; empty: that example
            seed: the first seed
            count: how many pictures of each method
            steps: steps of sampling; empty for the model's own
            model: toybox, or another one that is offered here
            guidance: guidance scale; empty for the model's own

        Returns:
            The pictures with their captions, and the measurements of each method.
        """
        try:
            names = many_methods(methods, negatives)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error
        values = {"prompt": prompt, "negatives": negatives, "methods": names, "seed": seed, "count": count}
        board = await asked({**values, "steps": steps, "guidance": guidance, "model": model}, request)
        pictures = [
            (file, f"{result.label}, seed {seed}")
            for result in board.results
            for file, seed in zip(result.files, board.settings.seeds, strict=False)
        ]
        return pictures, {result.label: in_json_types(result, board) for result in board.results}

    def methods() -> list[dict[str, str]]:
        """List the methods: what each does, what it costs, what it needs."""
        return table()

    def stop(request: gr.Request) -> int:
        """Stop what this session has asked for; the number of requests that were stopped."""
        return len(engine.turns.stop(person_of(request)[1]))

    with gr.Group(visible=False):
        prompt, negatives = gr.Textbox(), gr.Textbox("")
        method, names = gr.Textbox(), gr.Textbox()
        seed, count, steps, guidance = gr.Number(0), gr.Number(1), gr.Number(), gr.Number()
        model = gr.Textbox(engine.options.model)
        picture, pictures, numbers = gr.Image(format="png", type="filepath"), gr.Gallery(format="png"), gr.JSON()
        stopped = gr.Number(precision=0)
        button = gr.Button()
    # preprocess=False: values come as they are, so that nothing is rounded before it is checked
    asking: dict[str, Any] = {"concurrency_limit": None, "preprocess": False}
    button.click(
        generate,
        [prompt, negatives, method, seed, steps, guidance, model],
        [picture, numbers],
        api_name="generate",
        **asking,
    )
    button.click(
        compare,
        [prompt, negatives, names, seed, count, steps, model, guidance],
        [pictures, numbers],
        api_name="compare",
        **asking,
    )
    button.click(methods, None, numbers, api_name="methods")
    button.click(stop, None, stopped, api_name="stop", queue=False)
