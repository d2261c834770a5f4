"""The demo's tools for agents (MCP), and who may speak to the server at all."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
from demo_server import FIRST, Served, served
from gradio_client import Client
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client
from PIL import Image

from negguide.demo.guard import Guard
from negguide.demo.options import Options
from negguide.demo.settings import make_settings

LOGIN = ("me", "secret")


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(agents=True) as running:
        yield running


@pytest.fixture(scope="module")
def closed() -> Iterator[Served]:
    with served(Options(first=FIRST), agents=True, logins=[LOGIN]) as running:
        yield running


def _basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def _with_agent(
    url: str, work: Callable[[ClientSession], Awaitable[Any]], headers: dict[str, str] | None = None
) -> Any:
    async def all_of_it() -> Any:
        async with (
            streamablehttp_client(f"{url}/gradio_api/mcp/", headers=headers) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return await work(session)

    return asyncio.run(all_of_it())


def _call(url: str, tool: str, headers: dict[str, str] | None = None, **arguments: Any) -> Any:
    return _with_agent(url, lambda session: session.call_tool(tool, arguments), headers)


def test_an_agent_sees_the_tools_and_only_the_prompt_is_required(server: Served) -> None:
    tools = {tool.name: tool for tool in _with_agent(server.url, lambda session: session.list_tools()).tools}
    assert set(tools) == {"generate", "compare", "methods", "stop"}
    assert tools["generate"].inputSchema["required"] == ["prompt"] == tools["compare"].inputSchema["required"]
    assert {"type": "null"} in tools["generate"].inputSchema["properties"]["steps"]["anyOf"]
    seen = httpx.get(f"{server.url}/gradio_api/mcp/schema").json()
    assert {tool["name"]: tool["inputSchema"] for tool in seen} == {
        name: tool.inputSchema for name, tool in tools.items()
    }


def test_an_agent_gets_a_picture_and_its_numbers(server: Served) -> None:
    answer = _call(server.url, "generate", prompt="a pet on grass", negatives="cat", seed=5, steps=2, guidance=None)
    picture, numbers = answer.content
    assert not answer.isError and (picture.type, picture.mimeType, numbers.type) == ("image", "image/png", "text")
    asked = {"prompt": "a pet on grass", "negatives": "cat", "seed": 5, "steps": 2, "count": 1}
    board = server.engine.known(make_settings(asked, server.engine.options))
    assert board is not None
    with Image.open(io.BytesIO(base64.b64decode(picture.data))) as image:
        assert image.tobytes() == board.results[1].images[0].tobytes()
    assert json.loads(numbers.text)["scores"]["passes"] == 4
    compared = _call(
        server.url, "compare", prompt="a pet on grass", negatives="cat", seed=5, steps=2, methods="perp_neg"
    )
    kinds = [content.type for content in compared.content]
    assert kinds == ["text", "image", "text", "image", "text"]
    assert set(json.loads(compared.content[-1].text)) == {"plain", "perp_neg"}


def test_without_steps_and_negatives_the_model_decides(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    blank = server.engine.blank
    monkeypatch.setattr(server.engine, "blank", lambda settings: asked.append(settings) or blank(settings))
    assert not _call(server.url, "generate", prompt="a pet").isError
    assert (asked[0].steps, asked[0].guidance, asked[0].negatives, asked[0].methods) == (None, None, "", ())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": " "}, "the prompt is empty"),
        ({"prompt": "a pet", "negatives": "cat:x"}, "cannot be read"),
        ({"prompt": "a pet", "steps": 1000}, "at most 100"),
        ({"prompt": "a pet", "model": "/etc"}, "not offered"),
    ],
)
def test_an_agent_is_told_what_is_wrong(server: Served, arguments: dict[str, Any], message: str) -> None:
    answer = _call(server.url, "generate", **arguments)
    assert answer.isError and message in answer.content[0].text


def test_an_agent_stops_what_it_asked_for_and_nothing_else(server: Served) -> None:
    turns, jobs = server.engine.turns, []
    submit = turns.submit
    turns.submit = lambda *rest: jobs.append(submit(*rest)) or jobs[-1]  # type: ignore[method-assign,func-returns-value]
    try:
        page = Client(server.url, verbose=False).submit("a pet", "cat", "perp_neg", 8, 30, api_name="/generate")
        _wait(lambda: len(jobs) == 1)
        answers: list[Any] = []
        asking = threading.Thread(
            target=lambda: answers.append(_call(server.url, "generate", prompt="a pet", negatives="cat", steps=100))
        )
        asking.start()
        _wait(lambda: len(jobs) == 2)
        assert json.loads(_call(server.url, "stop").content[0].text) == {"stopped": 1}
        asking.join(60)
        assert answers[0].isError and "Stopped" in answers[0].content[0].text
        page.result(120)
        assert [job.is_stopped for job in jobs] == [False, True] and jobs[1].steps < 100
    finally:
        turns.submit = submit  # type: ignore[method-assign]


def test_an_agent_that_goes_away_stops_its_run(server: Served) -> None:
    turns, jobs = server.engine.turns, []
    submit = turns.submit
    turns.submit = lambda *rest: jobs.append(submit(*rest)) or jobs[-1]  # type: ignore[method-assign,func-returns-value]
    try:
        message = {"name": "generate", "arguments": {"prompt": "a pet", "negatives": "cat", "steps": 100, "seed": 9}}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": message}
        accept = {"Accept": "application/json, text/event-stream"}
        with pytest.raises(httpx.TimeoutException):
            httpx.post(f"{server.url}/gradio_api/mcp/", json=body, headers=accept, timeout=1)
        _wait(lambda: bool(jobs) and jobs[0].done)
        assert jobs[0].is_stopped and jobs[0].steps < 100
    finally:
        turns.submit = submit  # type: ignore[method-assign]


def _wait(until: Callable[[], bool]) -> None:
    for _ in range(3000):
        if until():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen")


@pytest.mark.parametrize(
    "path", ["/", "/config", "/gradio_api/mcp/", "/gradio_api/mcp/schema", "/gradio_api/call/methods"]
)
def test_other_names_and_pages_of_others_are_refused(server: Served, path: str) -> None:
    for header, value in (
        ("Host", "evil.example"),
        ("Host", "evil.example:7860"),
        ("X-Forwarded-Host", "evil.example"),
        ("Origin", "http://evil.example"),
        ("Origin", "null"),
    ):
        for method in ("GET", "POST"):
            answer = httpx.request(method, server.url + path, headers={header: value}, json={})
            assert answer.status_code == 403 and "--allow-host" in answer.text, (header, value, method)
    port = server.url.rpartition(":")[2]
    for host in ("localhost", "127.0.0.1", "[::1]", "192.168.3.4"):
        assert (
            httpx.get(server.url, headers={"Host": f"{host}:{port}", "Origin": f"http://{host}:{port}"}).status_code
            == 200
        )


def test_names_can_be_allowed() -> None:
    def refusal(guard: Guard, **headers: str) -> Any:
        raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        return guard.refusal({"type": "http", "path": "/", "headers": raw})

    app: Any = None
    behind_proxy = Guard(app, hosts=["Demo.Example.org"])
    assert refusal(behind_proxy, host="demo.example.org", origin="https://demo.example.org") is None
    assert refusal(behind_proxy, host="127.0.0.1:7860", origin="https://demo.example.org") is None
    assert refusal(behind_proxy, host="127.0.0.1:7860", x_forwarded_host="demo.example.org") is None
    assert refusal(behind_proxy, host="demo.example.org.evil.example")[0] == 403
    assert refusal(behind_proxy, host="")[0] == 403
    assert refusal(Guard(app, hosts=["*"]), host="any.example", origin="null") is None
    assert refusal(Guard(app), host="10.0.0.1", origin="http://10.0.0.2")[0] == 403


PATHS = (
    "/config", "/openapi.json", "/docs", "/gradio_api/openapi.json", "/gradio_api/info", "/gradio_api/mcp",
    "/gradio_api/mcp/", "/gradio_api/mcp/schema", "/gradio_api/mcp/sse", "/gradio_api/heartbeat/x", "/gradio_api/queue/data",
    "/gradio_api/file=x", "/monitoring", "/gradio_api/nothing", "/gradio_api/runs", "/gradio_api/theme.css",
)  # fmt: skip


def test_with_logins_nothing_but_the_login_page_is_open(closed: Served) -> None:
    for path in PATHS:
        assert httpx.get(closed.url + path).status_code == 401, path
        assert httpx.post(closed.url + path, json={}).status_code == 401, path
    for headers in (
        _basic("me", "wrong"),
        _basic("you", "secret"),
        {"Authorization": "Basic !"},
        {"Cookie": "access-token-x=y"},
    ):
        assert httpx.get(f"{closed.url}/gradio_api/mcp/schema", headers=headers).status_code == 401
    page = httpx.get(closed.url)
    assert page.status_code == 200 and "Make pictures" not in page.text


def test_with_a_login_the_page_the_api_and_the_tools_work(closed: Served) -> None:
    client = Client(closed.url, auth=LOGIN, verbose=False)
    assert client.predict("a pet", "", "plain", 1, 1, api_name="/generate")[1]["error"] == ""
    answer = _call(closed.url, "generate", _basic(*LOGIN), prompt="a pet", steps=1)
    assert not answer.isError and answer.content[0].type == "image"
    with httpx.Client(base_url=closed.url) as browser:
        browser.post("/login", data={"username": "me", "password": "secret"}).raise_for_status()
        assert browser.get("/config").status_code == 200
        assert browser.get("/gradio_api/mcp/schema").status_code == 200
