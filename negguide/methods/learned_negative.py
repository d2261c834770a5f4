"""A negative that was learnt once and costs no pass: its direction is taken out of attention wherever it shows."""

from __future__ import annotations

import dataclasses
import functools
import os
from typing import ClassVar

from negguide import maths
from negguide.methods.base import Method, Step, Window
from negguide.methods.learned import Learned, Steering
from negguide.methods.options import check_options, option
from negguide.methods.registry import register
from negguide.methods.state import RunState, memory_of
from negguide.methods.step import as_window
from negguide.methods.tokens import Listen, RunContext, Tokens


@register
@dataclasses.dataclass(frozen=True)
class LearnedNegative(Method):
    """Takes a learnt thing out of what attention gives, in the prompt's rows, only where it shows, without any pass.

    `x - s max(0, w . x - b) d` for every image token x behind every layer that was learnt; d is the difference of the mean outputs
    with and without the thing, w finds it, b is what w finds where it is not, each for its own part of sampling. `negguide learn
    cat --anchor dog` measures them once on about 50 pairs of prompts and writes the file, which fits the model on which it was
    learnt.
    Neutral: strength 0, an empty window.

    Source: after CASteer (arXiv:2503.09630), with the detector of MidSteer's optimal form (arXiv:2605.05220); both from their
    abstracts. That self-attention is steered too is ours.

    >>> LearnedNegative("cat.safetensors", strength=2.0).file
    'cat.safetensors'
    """

    name: ClassVar[str] = "learned_negative"
    summary: ClassVar[str] = "a thing that was learnt once is taken out of attention, only where it shows"
    cost: ClassVar[str] = "no extra pass"
    paper: ClassVar[str] = "arXiv:2503.09630"
    needs_guidance: ClassVar[bool] = False

    file: str = option(help="What `negguide learn` wrote, for the model that is used.", local=True)
    strength: float = option(
        3.0, help="How much is taken out; 1 is what was learnt, 0 nothing. More removes more.", low=0, high=1e6
    )
    window: Window = option(
        Window(0, 0.5), help="When, in fractions of sampling or in sigma; what a picture shows is settled early."
    )

    def __post_init__(self) -> None:
        if not isinstance(self.file, str | os.PathLike) or not os.fspath(self.file):
            raise TypeError(f"file is {self.file!r}; LearnedNegative needs the file that `negguide learn` wrote")
        object.__setattr__(self, "file", os.fspath(self.file))
        object.__setattr__(self, "window", as_window(self.window))
        check_options(self)

    def listens(self, step: Step, context: RunContext, state: RunState) -> Listen | None:
        if self.strength == 0 or not self.window.is_open(step):
            return None
        layers = memory_of(state, self, lambda: self._fitting(context))
        return Listen(lambda layer: layer.name in layers)

    def tokens(self, tokens: Tokens, state: RunState) -> None:
        if "cond" not in tokens:
            return
        x = tokens["cond"]
        layers = memory_of(state, self, lambda: self._fitting(tokens.context))
        steering = layers[tokens.layer.name]
        if steering.direction.shape[1] != x.shape[-1]:
            raise ValueError(
                f"{self.file!r} was learnt on a model whose layer {tokens.layer.name} gives {steering.direction.shape[1]} "
                f"numbers for each token, and here it gives {x.shape[-1]}; learn it again on this model"
            )
        if steering.offset.device != x.device:
            steering = layers[tokens.layer.name] = Steering(*(tensor.to(x.device) for tensor in steering))
        part = min(int(tokens.step.progress * steering.parts), steering.parts - 1)
        direction, detector, offset = (tensor[part] for tensor in steering)
        tokens["cond"] = maths.steer(x, direction, detector, offset, self.strength)

    def _fitting(self, context: RunContext) -> dict[str, Steering]:
        """What was learnt, by layer; `ValueError` where it was learnt on other layers than those of the running denoiser."""
        learned = _loaded(self.file)
        absent = set(learned.layers) - {layer.name for layer in context.layers}
        if absent or not learned.layers:
            raise ValueError(
                f"{self.file!r} was learnt on {learned.family}, with layers that this model ({context.family}) lacks, "
                f"such as {min(absent, default='any')}; learn it again on this model"
            )
        return dict(learned.layers)


def _loaded(file: str) -> Learned:
    """What the file holds now, read again only where it has changed."""
    if not os.path.isfile(file):
        return Learned.load(file)  # which says what is wrong
    about = os.stat(file)
    return _read(file, about.st_mtime_ns, about.st_size)


@functools.lru_cache(maxsize=8)
def _read(file: str, modified: int, size: int) -> Learned:
    return Learned.load(file)
