"""Odd values at the demo's API are told in words, and a session stops only its own runs."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from demo_server import served
from gradio_client import Client


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with served() as server:
        yield Client(server.url, verbose=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": ""}, "the prompt is empty"),
        ({"prompt": "  "}, "the prompt is empty"),
        ({"prompt": None}, "the prompt is empty"),
        ({"negatives": "cat:1e9"}, "at most 100"),
        ({"seed": "zero"}, "seed: Input should be a valid integer"),
        ({"seed": 1.5}, "seed: Input should be a valid integer"),
        ({"steps": 1.5}, "steps: Input should be a valid integer"),
        ({"method": 7}, "methods.0: Input should be a valid string"),
    ],
)
def test_odd_values_are_told(client: Client, arguments: dict[str, Any], message: str) -> None:
    values = {"prompt": "a pet", "steps": 1, **arguments}
    with pytest.raises(Exception, match=message):
        client.predict(**values, api_name="/generate")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 1.5}, "count: Input should be a valid integer"),
        ({"methods": 7}, "names with spaces"),
        ({"prompt": ""}, "empty"),
    ],
)
def test_odd_values_of_a_comparison_are_told(client: Client, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        client.predict(**{"prompt": "a pet", "negatives": "cat", "steps": 1, **arguments}, api_name="/compare")


def test_only_the_prompt_must_be_given(client: Client) -> None:
    assert client.predict(prompt="a pet", steps=1, api_name="/generate")[1]["scores"]["passes"] == 2
    assert set(client.predict(prompt="a pet", negatives="cat", steps=1, api_name="/compare")[1]) == {
        "plain",
        "negative",
        "recommended",
    }


def test_sessions_without_a_name_stop_only_their_own(client: Client) -> None:
    from negguide.demo.handlers import person_of

    def session(host: str) -> str:
        request: Any = SimpleNamespace(username=None, session_hash=None, client=SimpleNamespace(host=host))
        return person_of(request)[1]

    assert session("1.2.3.4") != session("5.6.7.8") != ""
