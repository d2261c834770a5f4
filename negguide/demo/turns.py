"""Whose turn it is: one run at a time on the machine, people taking turns, and every run can be stopped at its next step."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any


class Stopped(Exception):
    """A run was stopped by its person, by leaving, or by the time limit."""


class Full(ValueError):
    """Nobody else can wait."""


class Job:
    """One request: waiting, at work, then done. `news` is what it last told; `error` what it ended with, if it failed.

    `steps`: denoiser steps so far; `stopped_after`: of those, the ones that ended after it was told to stop.
    """

    def __init__(self, work: Callable[[Job], Any], person: str, session: str) -> None:
        self.work, self.person, self.session = work, person, session
        self.news: Any = None
        self.error: BaseException | None = None
        self.done = False
        self.started: float | None = None
        self.steps = 0
        self.stopped_after = 0
        self.number = 0
        self._stop = threading.Event()
        self._listeners: list[Callable[[], None]] = []

    def tell(self, news: object) -> None:
        """Put the news where followers see it; only the newest counts."""
        self.news = news
        for listener in list(self._listeners):
            listener()

    def stop(self) -> None:
        """Let it end at its next step, or never begin."""
        self._stop.set()

    @property
    def is_stopped(self) -> bool:
        return self._stop.is_set()

    def step(self) -> None:
        """A denoiser step has ended. Raises `Stopped` if this was the last one wanted."""
        self.steps += 1
        self.stopped_after += self.is_stopped
        self.check()

    def check(self) -> None:
        """Raises `Stopped` if nobody wants the rest."""
        if self.is_stopped:
            raise Stopped

    async def follow(self, every: float = 0.5) -> AsyncIterator[Any]:
        """Its news as they come, and at least every so many seconds; ends with the job. Who stops following stops the job."""
        loop, wake = asyncio.get_running_loop(), asyncio.Event()

        def listener() -> None:
            loop.call_soon_threadsafe(wake.set)

        self._listeners.append(listener)
        try:
            while not self.done:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(wake.wait(), every)
                wake.clear()
                yield self.news
        finally:
            self._listeners.remove(listener)
            if not self.done:
                self.stop()


class Turns:
    """A line before one worker thread. Who was served longest ago comes next: first by person, then by their session.

    `waiting`: how many may stand in line; `each`: how many of them from one person; `seconds`: the longest turn.
    """

    def __init__(self, waiting: int, each: int, seconds: float) -> None:
        self.waiting, self.each, self.seconds = waiting, each, seconds
        self._line: list[Job] = []
        self._current: Job | None = None
        self._served: dict[str, int] = {}
        self._numbers = itertools.count(1)
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None

    def submit(self, work: Callable[[Job], Any], person: str, session: str) -> Job:
        """Stand in line. Raises `Full` when there is no room."""
        with self._change:
            if len(self._line) >= self.waiting:
                raise Full(f"{self.waiting} others are waiting; please try again in a minute")
            if sum(job.person == person for job in self._line) >= self.each:
                raise Full(f"{self.each} of your requests are waiting already; let them finish first")
            job = Job(work, person, session)
            job.number = next(self._numbers)
            self._line.append(job)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._serve, name="negguide-denoiser", daemon=True)
                self._thread.start()
            self._change.notify_all()
        return job

    def ahead(self, job: Job) -> int:
        """How many come before it, the one at work counted."""
        with self._change:
            if job not in self._line:
                return 0
            served, line, place = dict(self._served), list(self._line), int(self._current is not None)
            while line:
                first = min(line, key=lambda waiting: _rank(waiting, served))
                if first is job:
                    break
                line.remove(first)
                _count(first, served, place + 10**9)
                place += 1
            return place

    def stop(self, session: str) -> list[Job]:
        """Stop all that a session has in line or at work."""
        with self._change:
            jobs = [job for job in [self._current, *self._line] if job is not None and job.session == session]
            for job in jobs:
                job.stop()
            self._change.notify_all()
        return jobs

    def _serve(self) -> None:
        while True:
            with self._change:
                while not self._line:
                    self._change.wait()
                job = min(self._line, key=lambda waiting: _rank(waiting, self._served))
                self._line.remove(job)
                self._current = job
                _count(job, self._served, next(self._numbers))
                if len(self._served) > 10_000:
                    self._served.clear()
            limit = threading.Timer(self.seconds, job.stop)
            limit.daemon = True
            limit.start()
            job.started = time.monotonic()
            try:
                job.check()
                job.work(job)
            except BaseException as error:  # whatever a run ends with, the next one gets its turn
                job.error = error
            finally:
                limit.cancel()
                job.done = True
                with self._change:
                    self._current = None
                job.tell(job.news)
                del job  # its pictures are not kept until the next one comes


def _rank(job: Job, served: dict[str, int]) -> tuple[int, int, int]:
    return served.get(job.person, 0), served.get(f"{job.person} {job.session}", 0), job.number


def _count(job: Job, served: dict[str, int], number: int) -> None:
    served[job.person] = served[f"{job.person} {job.session}"] = number
