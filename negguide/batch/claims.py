"""Who works on what: claim files that any number of processes on any number of machines agree by.

A claim is a file `<unit>.<generation>` that names its worker; creating it is atomic, so that one process wins. The claim of
a worker that is dead, or hangs (`signs`), is taken over by creating the next generation, which again one process wins. Nothing is
ever deleted while others work, so no order of events can hand a unit out twice.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from negguide.batch.signs import DEAD, LEASE, Signs, worker_name
from negguide.experiment.files import is_full

FOLDER = "claims"

State = Literal["mine", "busy", "done"]


class Claims:
    """The claims of one process in a batch's folder; use it in a `with` block. Options: see `Signs`."""

    def __init__(
        self,
        root: Path,
        dead_after: float = DEAD,
        lease: float = LEASE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = root / FOLDER
        self.name = worker_name()
        self.signs = Signs(self.folder / "workers", self.name, dead_after, lease, clock)
        self._mine: dict[str, int] = {}
        self._before: dict[str, int] = {}

    def __enter__(self) -> Claims:
        self.signs.start()
        # What was finished before this process looked at the pictures says nothing: it may have failed, or been altered.
        for file in self.folder.glob("*.done"):
            unit, generation, _ = file.name.split(".")
            self._before[unit] = max(self._before.get(unit, -1), int(generation))
        return self

    def __exit__(self, *error: object) -> None:
        self.signs.stop()

    def take(self, unit: str) -> State:
        """Claim a unit: "mine" to work on it, "busy" when a living worker has it, "done" when one finished it by now."""
        generation = self._before.get(unit, -1) + 1
        while (file := self.folder / f"{unit}.{generation}").exists():
            if file.with_name(f"{file.name}.done").exists():
                return "done"
            if self._is_held(file):
                return "busy"
            generation += 1
        self.signs.gets_on(at_once=True)  # who waited long for others did not get on, and does not hang
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
        return bool(self.signs.others())

    def clear(self) -> None:
        """Remove all claims; when everything is done and nobody else is here."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _is_held(self, file: Path) -> bool:
        """Whether who made a claim is at work on it."""
        if owner := _read(file):
            return self.signs.life(owner) == "alive"
        return self.signs.seconds_unchanged(file) < self.signs.dead_after  # its name may just be being written

    def _create(self, file: Path) -> bool:
        """Make the file with its content in one go; False if another was faster."""
        draft = self.folder / f".{self.name}.tmp"
        self.folder.mkdir(exist_ok=True)  # one that left may have cleared it
        try:
            draft.write_text(self.name)
            os.link(draft, file)
        except FileExistsError:
            return False
        except OSError as error:
            if is_full(error):
                raise
            return self._create_without_link(file)
        finally:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
        return True

    def _create_without_link(self, file: Path) -> bool:
        """On a file system without links: the content follows a moment later."""
        try:
            with file.open("x") as stream:
                stream.write(self.name)
        except FileExistsError:
            return False
        except OSError:
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
            raise
        return True


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
