"""Makes a comparison for the page and the API, with the functions of `negguide compare`, and tells how it goes."""

from __future__ import annotations

import dataclasses
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negguide.demo.carried import KEY, packed
from negguide.demo.files import Files
from negguide.demo.history import archive
from negguide.demo.options import Options
from negguide.demo.pictures import thumb
from negguide.demo.remarks import fewer_steps, of_all, of_one
from negguide.demo.results import Board, Result, State, looks_of
from negguide.demo.settings import Asked, Settings, request_of
from negguide.demo.shelf import Shelf, free_memory
from negguide.demo.turns import Job, Stopped, Turns
from negguide.demo.watch import Onlooker
from negguide.experiment.defaults import defaults_of
from negguide.experiment.files import write
from negguide.experiment.judges import Judge, judge_all, judges_for
from negguide.experiment.metadata import PictureMetadata
from negguide.experiment.models import Model, dtype_name
from negguide.experiment.recipe import command_line, python_lines
from negguide.experiment.sampling import Made, make, png
from negguide.experiment.tasks import slug
from negguide.methods import AdaptiveNegatives, Method
from negguide.metrics import mss, pixels, vendi

if TYPE_CHECKING:
    from PIL.Image import Image

KEPT = 24
"""Comparisons that are remembered."""
_EVERY = 0.4
"""Seconds between previews, at least."""


class Engine:
    """What a server holds: the line, the model at hand, the judges, what was made lately."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.turns = Turns(options.waiting, options.each, options.seconds)
        self.shelf = Shelf(options)
        self.files = Files()
        self._judges: dict[str, list[Judge]] = {}
        self._made: OrderedDict[Settings, Board] = OrderedDict()
        self._lock = threading.Lock()

    def known(self, settings: Settings) -> Board | None:
        """A comparison that was made before; equal settings give equal pictures."""
        with self._lock:
            board = self._made.get(settings)
            if board is None:
                return None
            if not all(Path(file).is_file() for result in board.results for file in result.files):
                del self._made[settings]  # made so long ago that its files are removed
                return None
            self._made.move_to_end(settings)
            return board

    def blank(self, settings: Settings) -> Board:
        """A comparison of which nothing is made yet. `ValueError` as `request_of`."""
        asked = request_of(settings, self.options)
        results = (Result(each.label, each.arm.summary, warnings=of_one(each, settings)) for each in asked)
        remarks = (*of_all(settings, asked), *fewer_steps(settings, self.options))
        return Board(settings, tuple(results), remarks=remarks)

    def submit(self, settings: Settings, person: str, session: str) -> Job:
        """Check the settings and stand in line; `ValueError` as `blank`, `turns.Full` as `stand_in_line`."""
        return self.stand_in_line(self.blank(settings), person, session)

    def stand_in_line(self, board: Board, person: str, session: str) -> Job:
        """Stand in line for a comparison; the job's news are `Board`s. Raises `turns.Full`."""
        job = self.turns.submit(lambda job_of_run: self._run(job_of_run, board), person, session)
        if job.news is None:
            job.tell(board)
        return job

    def close(self) -> None:
        """Remove what was written."""
        self.files.close()

    def _run(self, job: Job, board: Board) -> None:
        run = _Run(self, job, board)
        try:
            run.all()
        except Stopped:
            job.tell(
                run.ended("stopped", f"Stopped after {job.steps} steps" if job.steps else "Stopped before it began")
            )
        except Exception as error:
            job.tell(run.ended("failed", explain(error)))
            free_memory()
        else:
            job.tell(run.board)
            if any(result.is_incomplete for result in run.board.results):
                return  # another time the watcher may answer
            with self._lock:
                self._made[board.settings] = run.board
                while len(self._made) > KEPT:
                    self._made.popitem(last=False)

    def judges(self, model: Model) -> list[Judge]:
        """Who judges its pictures; loaded once."""
        bundle = model.bundled.bundle.name if model.bundled else ""
        if bundle not in self._judges:
            self._judges[bundle] = judges_for(model.name, self.options.clip)
        return self._judges[bundle]


class _Run:
    """One comparison at work, on the worker's thread."""

    def __init__(self, engine: Engine, job: Job, board: Board) -> None:
        self.engine, self.job, self.board = engine, job, board
        self._began = time.monotonic()
        self._seen = 0.0

    def all(self) -> None:
        settings = self.board.settings
        self._say(state="running")
        spec = (settings.model, settings.dtype, settings.offload)
        model = self.engine.shelf.get(spec, lambda words: self._say(message=words))
        asked = asked_of(settings, self.engine.options)
        self._say(results=tuple(dataclasses.replace(r, steps=asked[0].request.steps) for r in self.board.results))
        self._began = time.monotonic()
        for at, each in enumerate(asked):
            self.job.check()
            self._arm(at, each, model)
        done = [result for result in self.board.results if result.state == "done"]
        if not done:
            raise ValueError(self.board.results[0].error or "nothing could be made")
        packed = str(archive(self.board, self.engine.files.folder()))
        self._say(state="done", message="", share=1.0, left=0.0, archive=packed)

    def ended(self, state: State, message: str) -> Board:
        """The board when it ends early: what is there stays, what is not is marked."""
        open_ones = ("waiting", "running")
        reason = message if state == "failed" else ""
        results = tuple(
            dataclasses.replace(r, state=state, error=r.error or reason) if r.state in open_ones else r
            for r in self.board.results
        )
        return dataclasses.replace(self.board, results=results, state=state, message=message, left=None)

    def _arm(self, at: int, asked: Asked, model: Model) -> None:
        task, request = asked.request.tasks[0], asked.request
        self._put(at, state="running")
        seen: dict[int, Callable[[], list[Image]]] = {}
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            try:
                methods = asked.arm.build(task.negatives)
                keeps = any(isinstance(method, AdaptiveNegatives) for method in methods)
                result = self._make(at, asked, model, methods, seen if keeps else None)
                scores, presence, notes, shows = self._judge(result, model, asked)
                looks = looks_of(result, seen)
            except Stopped:
                raise
            except Exception as error:  # a method that fails must not take the others with it
                free_memory()
                self._put(at, state="failed", error=explain(error), previews=())
                return
        texts = [" ".join(str(warning.message).split()) for warning in heard if warning.category is UserWarning]
        if result.lost:  # pictures to look at, but not what the method makes: no figure of them counts
            pictures, thumbs = tuple(result.images), tuple(map(thumb, result.images))
            self._put(at, state="failed", error=result.lost, previews=(), images=pictures, thumbs=thumbs, looks=looks)
            return
        self._put(
            at,
            state="done",
            step=request.steps,
            previews=(),
            images=tuple(result.images),
            thumbs=tuple(map(thumb, result.images)),
            files=self._write(asked, result, methods, model),
            scores={"seconds": result.seconds, "passes": result.passes, **scores},
            presence=presence,
            notes=notes,
            shows=shows,
            looks=looks,
            warnings=tuple(dict.fromkeys([*of_one(asked, self.board.settings), *texts])),
            python=python_lines(model, request),
            command=_command(model, asked, self.board.settings),
        )

    def _make(
        self,
        at: int,
        asked: Asked,
        model: Model,
        methods: Sequence[Method],
        seen: dict[int, Callable[[], list[Image]]] | None,
    ) -> Made:
        def see(step: int, count: int, pictures: Callable[[], list[Image]]) -> None:
            self.job.check()
            if seen is not None:
                seen[step] = pictures
            now = time.monotonic()
            if now - self._seen >= _EVERY:
                images = pictures()
                previews = tuple(map(thumb, images))
                self._seen = time.monotonic()
                self._seen += 3 * (self._seen - now)  # at most a quarter of the time goes into previews
                self._put(at, previews=previews, first=images[0])

        def tick(share: float) -> None:
            result = self.board.results[at]
            done = min(result.steps, result.step + 1) if result.step < result.steps else result.steps
            self._put(at, step=done, progress=True)
            self.job.step()

        onlooker = Onlooker(see, None if model.bundled else self.engine.options.preview)
        task, request = asked.request.tasks[0], asked.request
        return make(model, request, task.prompt, methods, request.seeds, tick, onlookers=(onlooker,))

    def _judge(
        self, result: Made, model: Model, asked: Asked
    ) -> tuple[dict[str, float], dict[str, float], tuple[str, ...], tuple[bool, ...]]:
        judges, task = self.engine.judges(model), asked.request.tasks[0]
        verdict = judge_all(judges, result.images, task)
        scores = dict(verdict.scores)
        if len(result.images) > 1 and "vendi" not in scores:
            features = pixels(result.images)
            scores |= {"vendi": vendi(features), "mss": mss(features)}
        word = "presence of "
        presence = {
            name.removeprefix(word): sum(each) / len(each)
            for name, each in verdict.each.items()
            if name.startswith(word)
        }
        return scores, presence, tuple(verdict.notes or ()), tuple(verdict.shows_negative or ())

    def _write(self, asked: Asked, result: Made, methods: Sequence[Method], model: Model) -> tuple[str, ...]:
        folder, request = self.engine.files.folder(), asked.request
        files = []
        for seed, image in zip(request.seeds, result.images, strict=True):
            metadata = PictureMetadata.of(
                request.tasks[0], methods, seed, request.seeds, model.name, request, dtype_name(model), result.passes
            )
            texts = metadata.texts(**{"method": asked.label, KEY: packed(self.board.settings)})
            name = f"{slug(asked.label, 40)}-{seed}.png"
            files.append(str(write(folder / name, png(image, texts))))
        return tuple(files)

    def _put(self, at: int, progress: bool = False, **changes: Any) -> None:
        results = list(self.board.results)
        results[at] = dataclasses.replace(results[at], **changes)
        total = sum(result.steps for result in results) or 1
        share = sum(result.steps if result.state in ("done", "failed") else result.step for result in results) / total
        left = self.board.left
        if progress and share > 0:
            left = (time.monotonic() - self._began) * (1 - share) / share
        self._say(results=tuple(results), share=share, left=left, message="")

    def _say(self, **changes: Any) -> None:
        self.board = dataclasses.replace(self.board, **changes)
        self.job.tell(self.board)


def asked_of(settings: Settings, options: Options) -> list[Asked]:
    """The arms with the steps (within the limit) and the guidance scale that the model is meant for, where none are set."""
    defaults = defaults_of(settings.model)
    return request_of(settings, options, min(defaults.steps, options.steps), defaults.guidance_scale)


def explain(error: BaseException) -> str:
    """An error for the person at the page, in one line."""
    from negguide.engine.memory import is_out_of_memory

    text = " ".join(str(error).split())
    if is_out_of_memory(error):
        return "The machine ran out of memory: ask for fewer pictures or a smaller size, or choose an offload"
    if isinstance(error, ValueError | TypeError | NotImplementedError | RuntimeError) and text:
        return text[:400]
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def _command(model: Model, asked: Asked, settings: Settings) -> str:
    more = ["--batch", str(asked.request.batch)]
    more += [] if settings.dtype == "auto" else ["--dtype", settings.dtype]
    return " ".join([command_line(model.name, asked.request), *more])
