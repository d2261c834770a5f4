"""Signs of life: how a worker shows that it lives and gets on, and how others tell, whatever their clocks say.

A worker touches one file as long as its process lives and another one while its work gets on. Others never compare these times
with a clock: they remember what they saw and wait for it to change. Only of a process of the same machine and the same
PID namespace is it known at once when it is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from negguide import formats
from negguide.experiment.files import write

BEAT, DEAD = 5.0, 60.0
"""Seconds between signs of life, and without one after which a worker counts as dead."""
LEASE = 1800.0
"""Seconds without a step of sampling after which a living worker's unit is taken over."""

Life = Literal["alive", "hung", "dead"]


def worker_name() -> str:
    """A name that no other worker has, also not one in a container with the same host name and process number."""
    return f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(8)}"


def place_of_this_process() -> str | None:
    """The machine since its last start and the PID namespace: where a process number means something; None where unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


class Signs:
    """The signs of life of the workers in a folder; this process gives its own between `start` and `stop`.

    Args:
        folder: where they lie.
        name: of this worker, see `worker_name`.
        dead_after: seconds without a sign of life after which a worker counts as dead.
        lease: seconds without progress after which a living one counts as hung.
        clock: seconds that pass, for tests.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        dead_after: float = DEAD,
        lease: float = LEASE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder, self.name = folder, name
        self.dead_after, self._lease, self._clock = dead_after, lease, clock
        self._seen: dict[Path, tuple[int, float]] = {}
        self._dead: set[str] = set()
        self._steps = self._told = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def start(self) -> None:
        """Show that this worker is here."""
        about = {"place": place_of_this_process(), "pid": os.getpid(), "started": _started(os.getpid())}
        write(self._life(self.name), json.dumps(formats.stamped(about)).encode())
        self._progress(self.name).touch()
        self._thread.start()

    def stop(self) -> None:
        """Take this worker's signs away."""
        self._stop.set()
        self._thread.join()
        for file in (self._life(self.name), self._progress(self.name)):
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)

    def gets_on(self, at_once: bool = False) -> None:
        """Work has got on; cheap enough for every step. `at_once`: others can see it when this returns."""
        self._steps += 1
        if at_once:
            self._show_progress()

    def others(self) -> list[str]:
        """Names of the other workers that are not known to be dead."""
        names = [file.stem for file in self.folder.glob("*.json") if file.stem != self.name]
        return [name for name in names if self.life(name) != "dead"]

    def life(self, name: str) -> Life:
        """How a worker is; the dead stay dead."""
        if name == self.name:
            return "alive"
        if not name or name in self._dead:
            return "dead"
        if not self._lives(name):
            self._dead.add(name)
            return "dead"
        return "hung" if self.seconds_unchanged(self._progress(name)) >= self._lease else "alive"

    def _lives(self, name: str) -> bool:
        file = self._life(name)
        try:
            about: dict[str, Any] = json.loads(file.read_text())
        except (OSError, ValueError):
            return False  # it left
        here = place_of_this_process()
        if here is not None and about.get("place") == here and about.get("started"):
            return _started(int(about["pid"])) == about["started"]
        return self.seconds_unchanged(file) < self.dead_after

    def seconds_unchanged(self, file: Path) -> float:
        """Seconds since which this process has seen a file as it is."""
        try:
            with file.open(
                "rb"
            ) as stream:  # opening asks a file server anew, where a mere look may be answered from memory
                stamp = os.fstat(stream.fileno()).st_mtime_ns
        except OSError:
            stamp = -1
        now = self._clock()
        before, since = self._seen.get(file, (None, now))
        if before != stamp:
            since = now
        self._seen[file] = (stamp, since)
        return now - since

    def _life(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _progress(self, name: str) -> Path:
        return self.folder / f"{name}.steps"

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(self._life(self.name))
            if self._steps != self._told:
                self._show_progress()

    def _show_progress(self) -> None:
        self._told = self._steps
        with contextlib.suppress(OSError):
            os.utime(self._progress(self.name))


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
