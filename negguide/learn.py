"""Learn a negative once: pairs of prompts with and without a thing, and what each attention layer gives for them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch

from negguide import maths
from negguide.engine import attach
from negguide.methods.base import Method, Step
from negguide.methods.learned import Learned, Steering
from negguide.methods.state import RunState
from negguide.methods.tokens import Listen, RunContext, Tokens

if TYPE_CHECKING:
    from torch import Tensor

Where = Literal["all", "text"]
"""Which layers are learnt: all over image tokens, or those alone that read the text (joint ones do)."""

PARTS = 10
"""Into how many parts sampling is cut, each with its own direction."""

_COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "black", "white")
_PLACES = ("on grass", "on sand", "in snow", "at night", "on water", "in a room")
TEMPLATES = ("a {}", "a {} on grass", *(f"a {colour} {{}} {place}" for colour in _COLOURS for place in _PLACES))
"""50 prompts with a gap for the thing."""


def learn(
    pipe: Any,
    thing: str,
    instead_of: Sequence[str],
    templates: Sequence[str] = TEMPLATES,
    where: Where = "all",
    shrinkage: float = 0.1,
    batch: int = 1,
    tell: Callable[[int], object] = lambda count: None,
    **call: object,
) -> Learned:
    """Measure on a pipeline what a thing adds to the outputs of its attention layers.

    Each template is sampled twice from the same noise, with the thing and with one of what may stand in its place, in turn.

    Args:
        pipe: a diffusers pipeline whose attention layers are known.
        thing: what is to be taken out: "cat".
        instead_of: what may stand there: ["dog", "rabbit"]. The nearer to the thing, the more exactly the thing alone is learnt.
        templates: prompts with `{}` for the thing.
        where: "all" layers over image tokens, or those alone that read the "text".
        shrinkage: 0 to 1, how much the detector is held to be the direction itself.
        batch: prompts that share a call.
        tell: told how many pictures have just been made.
        call: arguments of every call, such as `num_inference_steps` and `guidance_scale`.

    Returns:
        What `save` writes and `LearnedNegative` reads.

    Raises:
        ValueError: no template, or one without `{}`; nothing to stand in the thing's place.
        Unsupported: attention layers of this pipeline are not known.
    """
    if lacking := [template for template in templates if "{}" not in template]:
        raise ValueError(f"{lacking[0]!r} has no gap for the thing; write {{}} where it stands")
    if not templates or not instead_of or not thing.strip():
        raise ValueError(
            "a thing, something to stand in its place and one prompt at least are needed: learn(pipe, 'cat', ['dog'])"
        )
    with_thing, without = Recorder(where), Recorder(where)
    for recorder, nouns in ((with_thing, [thing]), (without, instead_of)):
        with attach(pipe, recorder):
            for start in range(0, len(templates), batch):
                places = range(start, min(start + batch, len(templates)))
                pipe(
                    [_phrase(templates[place], nouns[place % len(nouns)]) for place in places],
                    generator=[torch.Generator().manual_seed(place) for place in places],
                    output_type="latent",
                    **call,
                )
                tell(len(places))
    return Learned(thing, tuple(instead_of), with_thing.family, dict(fitted(with_thing, without, shrinkage)))


def _phrase(template: str, noun: str) -> str:
    return re.sub(r"\ba (?=[aeiou])", "an ", template.replace("{}", noun))


@dataclasses.dataclass
class _Sums:
    count: int
    first: Tensor
    second: Tensor

    @property
    def mean(self) -> Tensor:
        return self.first / self.count

    @property
    def scatter(self) -> Tensor:
        """Sum of the products of deviations from the mean, (C, C)."""
        return self.second - self.count * torch.outer(self.mean, self.mean)


@dataclasses.dataclass(frozen=True, eq=False)
class Recorder(Method):
    """Sums up image tokens behind attention layers, in the prompt's rows; changes nothing."""

    needs_guidance: ClassVar[bool] = False
    where: Where = "all"
    sums: dict[tuple[str, int], _Sums] = dataclasses.field(default_factory=dict)
    """By layer and part of sampling."""
    _families: list[str] = dataclasses.field(default_factory=list)

    @property
    def family(self) -> str:
        """Whose layers were heard; "" before the first call."""
        return self._families[0] if self._families else ""

    def listens(self, step: Step, context: RunContext, state: RunState) -> Listen | None:
        if not self._families:
            self._families.append(context.family)
        return Listen(lambda layer: self.where == "all" or layer.kind != "self")

    def tokens(self, tokens: Tokens, state: RunState) -> None:
        if "cond" not in tokens:
            return
        x = tokens["cond"].detach().flatten(0, 1).float()
        first, second = x.sum(0).double().cpu(), (x.T @ x).double().cpu()
        key = tokens.layer.name, min(int(tokens.step.progress * PARTS), PARTS - 1)
        before = self.sums.get(key)
        if before is not None:
            first, second = first + before.first, second + before.second
        self.sums[key] = _Sums(len(x) + (before.count if before else 0), first, second)


def fitted(with_thing: Recorder, without: Recorder, shrinkage: float) -> Iterator[tuple[str, Steering]]:
    """The steering of each layer that both heard."""
    for name in dict.fromkeys(layer for layer, _ in with_thing.sums):
        parts = [part for part in range(PARTS) if (name, part) in with_thing.sums and (name, part) in without.sums]
        if not parts:
            continue
        both = [(with_thing.sums[name, part], without.sums[name, part]) for part in parts]
        count = sum(sums.count for pair in both for sums in pair)
        covariance = torch.stack([sums.scatter for pair in both for sums in pair]).sum(0) / count
        on, off = (torch.stack([pair[side].mean for pair in both]) for side in (0, 1))
        steering = maths.fit_steering(on, off, covariance, shrinkage)
        # parts in which no step fell, as with few steps, have what the nearest one has
        nearest = [min(range(len(parts)), key=lambda at: abs(parts[at] - part)) for part in range(PARTS)]
        yield name, Steering(*(tensor[nearest] for tensor in steering))
