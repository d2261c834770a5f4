"""The demo as tools for agents (MCP over HTTP): the same as the API, with pictures that a model can see."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import Receive, Scope, Send

from negguide.demo.asking import METHOD, METHODS, ask, many_methods, one_method
from negguide.demo.engine import Engine, explain
from negguide.demo.guard import user_of
from negguide.demo.results import Board, in_json_types
from negguide.methods.listing import table

if TYPE_CHECKING:
    from mcp.types import ImageContent, TextContent

PATH = "/gradio_api/mcp"
"""Where gradio has its own."""
Prompt = Annotated[str, Field(description='What the picture should show, such as "a pet on grass".')]
Negatives = Annotated[str, Field(description='What it should not show, such as "cat, hat:0.8"; may be empty.')]
Method = Annotated[
    str | None,
    Field(
        description="How to say no, such as recommended or perp_neg:weight=2; plain for no method; "
        f"null for {METHOD} where there are negatives."
    ),
]
Names = Annotated[
    str | None,
    Field(
        description=f"Names of methods with spaces between; plain is always there; null for {METHODS!r} where there are negatives."
    ),
]
Seed = Annotated[int, Field(description="The same seed gives the same picture.")]
Steps = Annotated[int | None, Field(description="Steps of sampling; null for the model's own.")]
Guidance = Annotated[float | None, Field(description="Guidance scale; null for the model's own.")]
Model = Annotated[str | None, Field(description="toybox, or another one that is offered here; null for the usual one.")]


class Agents:
    """The MCP server: `routes` belong to the app, `running` spans its life."""

    def __init__(self, engine: Engine) -> None:
        from mcp.server.fastmcp import FastMCP
        from mcp.server.transport_security import TransportSecuritySettings

        self.engine = engine
        # Host and Origin are checked for the whole server by `guard`
        security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        self.server = FastMCP("negguide", stateless_http=True, log_level="WARNING", transport_security=security)
        for tool in (self.generate, self.compare, self.methods, self.stop):
            self.server.add_tool(tool, structured_output=False)
        self.server.streamable_http_app()  # makes its session manager
        self.running = self.server.session_manager.run

    def routes(self) -> list[BaseRoute]:
        """Before gradio's own."""
        inner = Starlette(routes=[Route("/schema", self._schema), Mount("/", self._serve)])
        return [Route(PATH, self._serve_exactly, methods=["GET", "POST", "DELETE"]), Mount(PATH, inner)]

    async def generate(
        self,
        prompt: Prompt,
        negatives: Negatives = "",
        method: Method = None,
        seed: Seed = 0,
        steps: Steps = None,
        guidance: Guidance = None,
        model: Model = None,
    ) -> list[Any]:
        """Make one picture of a prompt without what is not wanted: the picture, its numbers, the code that makes it again."""
        methods = one_method(method, negatives)
        values = {"prompt": prompt, "negatives": negatives, "methods": methods, "seed": seed, "count": 1}
        board = await self._ask({**values, "steps": steps, "guidance": guidance, "model": model})
        result = board.results[-1]
        if result.state != "done":
            raise ValueError(result.error)
        picture = base64.b64encode(Path(result.files[0]).read_bytes()).decode()
        return [_image(picture, "image/png"), _text(in_json_types(result, board))]

    async def compare(
        self,
        prompt: Prompt,
        negatives: Negatives = "",
        methods: Names = None,
        seed: Annotated[int, Field(description="The first seed.")] = 0,
        count: Annotated[int, Field(description="How many pictures of each method.")] = 1,
        steps: Steps = None,
        guidance: Guidance = None,
        model: Model = None,
    ) -> list[Any]:
        """Make the same pictures with several methods from the same seeds: small pictures, and what each method did in numbers."""
        values = {
            "prompt": prompt,
            "negatives": negatives,
            "methods": many_methods(methods, negatives),
            "seed": seed,
            "count": count,
        }
        board = await self._ask({**values, "steps": steps, "guidance": guidance, "model": model})
        contents: list[TextContent | ImageContent] = []
        for result in board.results:
            for uri, of in zip(result.thumbs, board.settings.seeds, strict=False):
                head, _, data = uri.partition(",")
                contents += [_text(f"{result.label}, seed {of}"), _image(data, head[len("data:") : -len(";base64")])]
        return [*contents, _text({result.label: in_json_types(result, board) for result in board.results})]

    async def methods(self) -> list[Any]:
        """List the methods: what each does, what it costs, what it needs."""
        return [_text(table())]

    async def stop(self) -> list[Any]:
        """Stop what agents of yours (same login, or same address) have asked for and is not done; how many requests those were."""
        return [_text({"stopped": len(self.engine.turns.stop(self._person()[1]))})]

    async def _ask(self, values: dict[str, object]) -> Board:
        try:
            return await ask(self.engine, values, *self._person())
        except (ValueError, TypeError) as error:
            raise ValueError(explain(error)) from error

    def _person(self) -> tuple[str, str]:
        """(who asks, what `stop` ends)."""
        request = self.server.get_context().request_context.request
        client = getattr(request, "client", None)
        person = user_of(request.scope if request else {}) or (client.host if client else "unknown")
        return person, f"agents of {person}"

    async def _schema(self, request: Request) -> Response:
        """The tools as JSON, for those who look before they connect."""
        tools = await self.server.list_tools()
        return JSONResponse(
            [
                {
                    "name": tool.name,
                    "description": tool.description,
                    "inputSchema": tool.inputSchema,
                    "meta": {"file_data_present": False, "mcp_type": "tool", "endpoint_name": tool.name},
                }
                for tool in tools
            ]
        )

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.server.session_manager.handle_request(scope, receive, send)

    @property
    def _serve_exactly(self) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
        return _App(self._serve)


class _App:
    """A raw ASGI application for a `Route`, which would take a function for an endpoint."""

    def __init__(self, serve: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self.serve = serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.serve(scope, receive, send)


def _text(value: object) -> TextContent:
    from mcp.types import TextContent

    return TextContent(type="text", text=value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _image(data: str, kind: str) -> ImageContent:
    from mcp.types import ImageContent

    return ImageContent(type="image", data=data, mimeType=kind)
