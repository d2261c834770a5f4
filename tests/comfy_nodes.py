"""What ComfyUI offers to those who write nodes."""

from __future__ import annotations

import types
from typing import Any


class Socket:
    """A type of inputs and outputs; what an input is made with is kept in `about`."""

    def __init__(self, io_type: str) -> None:
        def end(id: str = "", **about: Any) -> types.SimpleNamespace:
            return types.SimpleNamespace(id=id, io_type=io_type, about=about)

        self.Input = self.Output = end


class ComfyNode:
    @classmethod
    def GET_SCHEMA(cls) -> Any:
        return cls.define_schema()


class NodeOutput:
    def __init__(self, *args: Any) -> None:
        self.args = args


class ComfyExtension:
    pass
