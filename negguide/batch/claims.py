"""Who works on what: claim files that any number of processes on any number of machines agree by.

A claim is a file `<unit>.<generation>` that names its worker; creating it is atomic, so that one process wins. A worker
shows that it lives by touching its own file; the claim of a dead one is taken over by creating the next generation, which
again one process wins. Nothing is ever deleted while others work, so no order of events can hand a unit out twice.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import threading
from pathlib import Path
from typing import Literal

from negguide.experiment.files import write

FOLDER = "claims"
BEAT, DEAD = 5.0, 60.0
"""Seconds between signs of life, and without one after which a worker of another machine counts as dead."""

State = Literal["mine", "busy", "done"]


class Claims:
    """The claims of one process in a batch's folder; use it in a `with` block."""

    def __init__(self, root: Path, dead_after: float = DEAD) -> None:
        self.folder = root / FOLDER
        self.name = f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(3)}"
        self._dead_after = dead_after
        self._mine: dict[str, int] = {}
        self._before: dict[str, int] = {}
        self._alive: dict[str, bool] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Claims:
        (self.folder / "workers").mkdir(parents=True, exist_ok=True)
        about = {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}
        write(self._worker(self.name), json.dumps(about).encode())
        self._thread.start()
        # What was finished before this process looked at the pictures says nothing: it may have failed, or been altered.
        for file in self.folder.glob("*.done"):
            unit, generation, _ = file.name.split(".")
            self._before[unit] = max(self._before.get(unit, -1), int(generation))
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self._worker(self.name).unlink(missing_ok=True)

    def take(self, unit: str) -> State:
        """Claim a unit: "mine" to work on it, "busy" when a living worker has it, "done" when one finished it by now."""
        generation = self._before.get(unit, -1) + 1
        while (file := self.folder / f"{unit}.{generation}").exists():
            if file.with_name(f"{file.name}.done").exists():
                return "done"
            if self._is_alive(_read(file)):
                return "busy"
            generation += 1
        if not self._create(file):
            return "busy"
        self._mine[unit] = generation
        return "mine"

    def finish(self, unit: str) -> None:
        """A unit of this process is made, or has failed for now."""
        with contextlib.suppress(OSError):  # a full disk: the worker's own end frees the unit
            (self.folder / f"{unit}.{self._mine[unit]}.done").touch()

    def others(self) -> bool:
        """Whether another living worker is at this batch."""
        files = (self.folder / "workers").glob("*.json")
        return any(self._is_alive(file.stem) for file in files if file.stem != self.name)

    def clear(self) -> None:
        """Remove all claims; when everything is done and nobody else is here."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _create(self, file: Path) -> bool:
        """Make the file with its content in one go; False if another was faster."""
        draft = self.folder / f".{self.name}.tmp"
        self.folder.mkdir(exist_ok=True)  # one that left may have cleared it
        draft.write_text(self.name)
        try:
            os.link(draft, file)
        except FileExistsError:
            return False
        except OSError:  # a file system without links: the content follows a moment later
            try:
                with file.open("x") as stream:
                    stream.write(self.name)
            except FileExistsError:
                return False
        finally:
            draft.unlink(missing_ok=True)
        return True

    def _is_alive(self, name: str) -> bool:
        """Whether a worker lives; the dead stay dead."""
        if name == self.name:
            return True
        if name and self._alive.get(name) is False:
            return False
        self._alive[name] = alive = self._looks_alive(name)
        return alive

    def _looks_alive(self, name: str) -> bool:
        file = self._worker(name)
        try:
            about, seen = json.loads(file.read_text()), file.stat().st_mtime
        except (OSError, ValueError):
            return False  # it left
        if about.get("host") == socket.gethostname() and about.get("started") is not None:
            return _started(about["pid"]) == about["started"]
        with contextlib.suppress(OSError):
            return self._worker(self.name).stat().st_mtime - seen < self._dead_after  # one clock: the file server's
        return True

    def _worker(self, name: str) -> Path:
        return self.folder / "workers" / f"{name}.json"

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(self._worker(self.name))


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process of this machine was started, in the kernel's words; "" when there is none, None where unknown.

    Process numbers are used again, so that a number alone would keep a dead worker's claims for ever.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]  # what is dead but not yet buried holds nothing
    except FileNotFoundError:
        return "" if Path("/proc/self/stat").exists() else None
    except (OSError, IndexError):
        return None
