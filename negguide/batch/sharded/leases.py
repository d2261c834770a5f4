"""Who is at which shard: a hint that spares double work, where an address knows no locks.

A worker writes `work/SHARD` and writes it again while it gets on. What others have not seen change for a minute is theirs to take.
Two may take the same one at the same moment; then both make the same bytes, and one of them for nothing.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from negguide.batch.addresses import Address
from negguide.batch.signs import DEAD, LEASE

FOLDER = "work"
BEAT = 15.0
"""Seconds between two signs of life: an object is written each time."""


class Leases:
    """The leases of one worker; use it in a `with` block.

    Args:
        address: of the batch.
        name: of this worker.
        lease: seconds without progress after which this worker gives no more signs of life.
        dead_after: seconds without a sign of life after which another worker's shard may be taken.
        beats: whether signs are given by themselves, in a thread.
        clock: seconds that pass, for tests.
    """

    def __init__(
        self,
        address: Address,
        name: str,
        lease: float = LEASE,
        dead_after: float = DEAD,
        beats: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address, self._name, self._lease, self._dead_after = address, name, lease, dead_after
        self._beats, self._clock = beats, clock
        self._seen: dict[str, tuple[str, float]] = {}
        self._mine: str | None = None
        self._got_on = clock()
        self._count = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Leases:
        if self._beats:
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        if self._beats:
            self._thread.join()
        self.leave()

    def held(self) -> set[str]:
        """Shards that others are at."""
        now, before, self._seen = self._clock(), self._seen, {}
        for name, stamp in self._address.stamps(FOLDER).items():
            stamp_before, since = before.get(name, ("", now))
            self._seen[name] = (stamp, since if stamp_before == stamp else now)
        return {name for name, (_, since) in self._seen.items() if now - since < self._dead_after}

    def take(self, shard: str) -> None:
        """Say that this worker is at a shard."""
        with self._lock:
            self._mine = shard
            self._show()

    def leave(self) -> None:
        """This worker is at no shard any more."""
        with self._lock:
            if self._mine is not None:
                with contextlib.suppress(OSError):  # others wait a minute for it
                    self._address.remove(f"{FOLDER}/{self._mine}")
            self._mine = None

    def gets_on(self) -> None:
        """Work has got on; cheap enough for every step."""
        self._got_on = self._clock()

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            with self._lock, contextlib.suppress(OSError):
                if self._mine is not None and self._clock() - self._got_on < self._lease:
                    self._show()

    def _show(self) -> None:
        self._count += 1
        self._address.write(f"{FOLDER}/{self._mine}", f"{self._name} {self._count}".encode())
