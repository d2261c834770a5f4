"""Starts the demo: the page, the API and the MCP tools on one server, and ends it so that nothing is left behind."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import gradio as gr
from PIL import Image
from starlette.middleware import Middleware

from negguide.demo.api import add_api
from negguide.demo.engine import Engine
from negguide.demo.files import KEPT_SECONDS
from negguide.demo.guard import Guard
from negguide.demo.handlers import Handlers
from negguide.demo.options import Options
from negguide.demo.page import layout
from negguide.demo.pictures import DROPPED
from negguide.demo.style import css, head, theme

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


def launch(
    blocks: gr.Blocks, engine: Engine, agents: bool = False, logins: Sequence[tuple[str, str]] = (), **more: object
) -> Any:
    """Start it with the manners of a public server.

    Args:
        blocks: from `build`.
        engine: from `build`.
        agents: offer the tools for agents (MCP) too.
        logins: (user, password) pairs, one of which everybody must have; empty for none.
        more: further arguments of `gr.Blocks.launch`.

    Returns:
        What `gr.Blocks.launch` returns.
    """
    options = engine.options
    Image.MAX_IMAGE_PIXELS = max(DROPPED, options.side) ** 2  # whatever is decoded unchecked elsewhere is bounded too
    app: dict[str, Any] = {"middleware": [Middleware(Guard, hosts=options.hosts, logins=tuple(logins))]}
    app |= {"openapi_url": None, "docs_url": None, "redoc_url": None}
    if agents:
        from negguide.demo.agents import Agents

        tools = Agents(engine)

        @contextlib.asynccontextmanager
        async def lifespan(app: object) -> AsyncIterator[None]:
            async with tools.running():
                yield

        app |= {"routes": tools.routes(), "lifespan": lifespan}
    given: dict[str, Any] = {
        "server_name": "127.0.0.1",
        "theme": theme(),
        "css": css(),
        "head": head(),
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
        "mcp_server": False,
        "auth": list(logins) or None,
        "app_kwargs": app,
        **more,
    }
    return blocks.launch(**given)


def serve(blocks: gr.Blocks, engine: Engine, **more: Any) -> None:
    """`launch` until the server is told to end (Ctrl-C, SIGTERM), then remove what was written. `OSError`: the port is taken."""
    with ended_by_sigterm(engine):
        try:
            launch(blocks, engine, **more)
        finally:
            blocks.close(verbose=False)
            engine.close()


@contextlib.contextmanager
def ended_by_sigterm(engine: Engine) -> Iterator[None]:
    """A SIGTERM (docker stop, systemd) is like Ctrl-C, so that what stands in `finally` runs; files go at once.

    Open pages may keep the server from ending for longer than those who sent it wait before they kill.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        engine.close()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)


def warm(engine: Engine) -> None:
    """Make the first screen's pictures before anybody opens the page."""
    from negguide.demo.parts import initial

    engine.submit(initial(engine.options), "the server", "the server")
