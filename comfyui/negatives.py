"""What a NEGATIVES socket carries: conditionings with a weight, a window and a region, in a chain."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from negguide.methods.base import Window
from negguide.methods.mask import Mask
from negguide.methods.negative import Negative, Positive

if TYPE_CHECKING:
    from torch import Tensor

Conditioning = Sequence[Any]
"""ComfyUI's CONDITIONING: a list of (embeddings (1, L, C), dict of what goes with them)."""

_LIMITED = {
    "area": "the mask input of the negguide Negative node",
    "mask": "the mask input of the negguide Negative node",
    "start_percent": "start and stop of the negguide Negative node",
    "end_percent": "start and stop of the negguide Negative node",
    "clip_start_percent": "start and stop of the negguide Negative node",
    "hooks": "the plain conditioning: weights hooked to one conditioning are not read here",
}

_numbers = itertools.count(1)


@dataclasses.dataclass(frozen=True, eq=False)
class Entry:
    """One conditioning of the chain.

    Args:
        conditioning: what ComfyUI's text encoders give.
        weight: 0 (no effect, no pass) or more.
        window: when it holds.
        mask: where it holds, (H, W) or (1, H, W) in [0, 1]; None: everywhere.
        words: places of its words among the tokens of the first encoder, without padding, begin and end mark; None where they
            are not known.
        words_of: the same for each encoder by ComfyUI's name ("l", "t5xxl").
    """

    conditioning: Conditioning
    weight: float = 1.0
    window: Window = dataclasses.field(default_factory=Window)
    mask: Tensor | None = None
    words: tuple[int, ...] | None = None
    words_of: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_conditioning(self.conditioning)
        if self.mask is not None and self.mask.ndim == 3 and len(self.mask) != 1:
            raise ValueError(
                f"the mask of a negative has {len(self.mask)} pictures; one is needed, for the whole batch"
            )


def check_conditioning(conditioning: Conditioning) -> None:
    """Raise `ValueError` for a conditioning that says nothing at some places or steps: a difference from it means nothing."""
    for _, more in conditioning:
        for key, instead in _LIMITED.items():
            if key in more:
                raise ValueError(f"the conditioning of a negative is limited by {key!r}; use {instead} instead")


def as_concepts(
    entries: Sequence[Entry], kind: type[Negative] | type[Positive]
) -> tuple[tuple[Negative | Positive, ...], Mapping[str, Conditioning]]:
    """The chain as negguide's negatives under made-up texts, and what conditioning each text stands for."""
    concepts, conditionings = [], {}
    for entry in entries:
        text = stand_in()
        mask = None if entry.mask is None else Mask.of(entry.mask.reshape(entry.mask.shape[-2:]).cpu().float())
        concepts.append(kind(text, weight=entry.weight, window=entry.window, mask=mask))
        conditionings[text] = entry.conditioning
    return tuple(concepts), conditionings


def stand_in() -> str:
    """A text that no other conditioning of this process has."""
    return f"conditioning {next(_numbers)}"


def entry_of(clip: Any, text: str, **more: Any) -> Entry:
    """A text as an entry of the chain, encoded, with the places of its words."""
    tokens, blank = clip.tokenize(text), clip.tokenize("")
    words_of = {name: _words(_numbers_of(tokens, name), _numbers_of(blank, name)) for name in _encoders(tokens)}
    words = next(iter(words_of.values()))
    return Entry(clip.encode_from_tokens_scheduled(tokens), words=words, words_of=words_of, **more)


def _encoders(tokens: Any) -> list[str]:
    return list(tokens) if isinstance(tokens, Mapping) else [""]


def _words(numbers: Sequence[int], blank: Sequence[int]) -> tuple[int, ...]:
    return tuple(place for place, number in enumerate(numbers) if number not in set(blank))


def _numbers_of(tokens: Any, encoder: str) -> list[int]:
    """Token numbers of an encoder from what a CLIP's tokenize gives, chunk after chunk.

    What is no number (an embedding that takes the place of a word) stands as -1, which no empty text has.
    """
    if not isinstance(tokens, Mapping):
        return [int(number) for number in tokens.flatten().tolist()]
    return [pair[0] if isinstance(pair[0], int) else -1 for chunk in tokens[encoder] for pair in chunk]
