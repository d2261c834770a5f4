"""What the demo writes: one folder, emptied of what is old, removed when the server ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

KEPT_SECONDS = 3600
"""How long files are kept."""
_PREFIX = "negguide-demo-"


class Files:
    """Folders for pictures, each removed after `kept` seconds, all of them by `close`.

    A server that was killed could not close: what such ones have left in the folder for temporary files is removed too.
    """

    def __init__(self, kept: float = KEPT_SECONDS, every: float = 300.0) -> None:
        self.kept = kept
        _remove_orphans(kept)
        self.root = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
        self._count = 0
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep_on, args=(every,), name="negguide-sweeper", daemon=True)
        self._sweeper.start()

    def folder(self) -> Path:
        """A new folder."""
        with self._lock:
            self._count += 1
            path = self.root / str(self._count)
        path.mkdir(parents=True)
        return path

    def sweep(self) -> None:
        """Remove the folders that are too old."""
        with contextlib.suppress(OSError):
            for path in self.root.iterdir():
                if _age(path) > self.kept:
                    shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """Remove all of it."""
        self._closed.set()
        shutil.rmtree(self.root, ignore_errors=True)

    def _sweep_on(self, every: float) -> None:
        while not self._closed.wait(every):
            self.sweep()


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _remove_orphans(kept: float) -> None:
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        process = path.name.removeprefix(_PREFIX).partition("-")[0]
        with contextlib.suppress(OSError):
            is_old = min(map(_age, (path, *path.iterdir()))) > kept
            if is_old and process.isdecimal() and not _is_another(int(process)):
                shutil.rmtree(path, ignore_errors=True)


def _is_another(process: int) -> bool:
    """Whether another process of that number runs; our own number on an old folder is that of one before us in a container."""
    if process == os.getpid():
        return False
    if os.name == "nt":  # where os.kill ends a process whatever the signal
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
