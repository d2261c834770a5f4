"""A running demo for tests: the real app on the bundled model, with few steps."""

from __future__ import annotations

import dataclasses
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from negguide.demo.engine import Engine
from negguide.demo.options import Options

FIRST = {"steps": 2, "count": 2}


@dataclasses.dataclass(frozen=True)
class Served:
    url: str
    engine: Engine


@contextmanager
def served(options: Options | None = None, **more: Any) -> Iterator[Served]:
    from negguide.demo.server import build, launch

    options = options or Options(first=FIRST)
    blocks, engine = build(options)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        launch(blocks, engine, server_port=port, prevent_thread_lock=True, quiet=True, **more)
        yield Served(f"http://127.0.0.1:{port}", engine)
    finally:
        blocks.close(verbose=False)
        engine.close()
        assert not [t for t in threading.enumerate() if t.name == "negguide-denoiser" and not t.daemon]
