"""Starts the demo: the page, the API and the MCP tools on one server."""

from __future__ import annotations

from typing import Any

import gradio as gr

from negguide.demo.api import add_api
from negguide.demo.engine import Engine
from negguide.demo.handlers import Handlers
from negguide.demo.options import Options
from negguide.demo.page import layout
from negguide.demo.style import css, theme

KEPT_SECONDS = 3600
"""How long files of the page are kept."""
TITLE = "negguide: say no to a diffusion model"


def build(options: Options) -> tuple[gr.Blocks, Engine]:
    """The app, not yet started, and the engine behind it."""
    engine = Engine(options)
    with gr.Blocks(
        title=TITLE, analytics_enabled=False, delete_cache=(KEPT_SECONDS // 2, KEPT_SECONDS), fill_width=False
    ) as blocks:
        page = layout(options)
        Handlers(page, engine).connect(blocks)
        add_api(engine)
    blocks.queue(max_size=4 * options.waiting, default_concurrency_limit=None)
    return blocks, engine


def launch(blocks: gr.Blocks, options: Options, **more: Any) -> Any:
    """Start it with the manners of a public server; `more`: further arguments of `gr.Blocks.launch`."""
    given = {
        "server_name": "127.0.0.1",
        "theme": theme(),
        "css": css(),
        "max_threads": 64,
        "max_file_size": options.upload,
        "allowed_paths": [],
        "enable_monitoring": False,
        "run_history": False,
        "footer_links": ["api"],
        "show_error": True,
        "strict_cors": True,
        "share": False,
        "ssr_mode": False,
        **more,
    }
    return blocks.launch(**given)


def warm(engine: Engine) -> None:
    """Make the first screen's pictures before anybody opens the page."""
    from negguide.demo.parts import initial

    engine.submit(initial(engine.options), "the server", "")
