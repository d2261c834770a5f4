"""A watcher that chooses among words by CLIP: fast, generates nothing, works offline with the Toybox's CLIP."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from negguide.metrics.presence import NEUTRAL, TEMPLATE
from negguide.names import find_bundle
from negguide.watchers.protocol import Answer, Question
from negguide.watchers.registry import WatcherConfig, register_class
from negguide.watchers.words import canonical, words

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from negguide.metrics.clip import Clip

Vocabulary = tuple[tuple[str, tuple[str, ...]], ...]


@register_class
@dataclasses.dataclass(frozen=True)
class ZeroShot(WatcherConfig):
    """An open_clip model that answers with the likeliest words of a vocabulary; the confidence is their softmax share.

    `model`: "toybox", or a name that `negguide.metrics.clip.Clip.load` takes ("ViT-B-32/laion2b_s34b_b79k").
    `vocabulary`: words, or `{"pet": ["cat", "dog"], "colour": [...]}`: a question is answered from the lists whose
    names it mentions, from all of them if it mentions none. A question's own `options` come first. The Toybox brings
    its own vocabulary. A yes-or-no question (`about`) holds the thing against the other words of its lists and against
    "a picture"; it is yes from a share of 0.5. `top`: answers per question. `template`: the text for a word.

    >>> ZeroShot("ViT-B-32/openai", {"pet": ["cat", "dog"]}).vocabulary
    (('pet', ('cat', 'dog')),)
    """

    name: ClassVar[str] = "clip"

    model: str = "toybox"
    vocabulary: Vocabulary | Mapping[str, Sequence[str]] | Sequence[str] = ()
    top: int = 1
    template: str = TEMPLATE
    device: str = "cpu"

    def __post_init__(self) -> None:
        object.__setattr__(self, "vocabulary", _as_vocabulary(self.vocabulary))
        if "{}" not in self.template:
            raise ValueError(f"the template {self.template!r} has no place {{}} for the word")
        if self.top < 1:
            raise ValueError(f"top={self.top}; at least one answer per question")

    def __call__(self, images: Sequence[Image], questions: Sequence[Question], /) -> list[list[list[Answer]]]:
        """N pictures, Q questions -> N rows of Q lists of answers. `ValueError` for a question without any word to choose."""
        clip = _load(self.model, self.device)
        seen = clip.images([image.convert("RGB") for image in images])
        columns = [self._column(clip, seen, question) for question in questions]
        return [list(row) for row in zip(*columns, strict=True)]

    def _column(self, clip: Clip, images: Tensor, question: Question) -> list[list[Answer]]:
        if question.about:
            rivals = [
                word
                for _, group in self._lists()
                if question.about in group
                for word in group
                if word != question.about
            ]
            texts = [question.about, *dict.fromkeys(rivals)]
            present = self._shares(clip, images, texts, NEUTRAL)[:, 0].tolist()
            return [[Answer("yes", share) if share >= 0.5 else Answer("no", 1 - share)] for share in present]
        options = question.options or self._options(question)
        shares = self._shares(clip, images, options)
        best = shares.topk(min(self.top, len(options)))
        rows = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        return [[Answer(options[at], share) for share, at in zip(*row, strict=True)] for row in rows]

    def _shares(self, clip: Clip, images: Tensor, options: Sequence[str], others: Sequence[str] = ()) -> Tensor:
        """Softmax shares (N, options + others)."""
        import torch

        texts = [*(self.template.format(word) for word in options), *others]
        features = torch.stack([_text(self.model, self.device, text) for text in texts])
        return (clip.scale * images @ features.T).softmax(dim=1)

    def _options(self, question: Question) -> tuple[str, ...]:
        lists = self._lists()
        asked = {canonical(word) for word in words(question.text)}
        mentioned = [group for name, group in lists if name and canonical(name) in asked]
        options = tuple(dict.fromkeys(word for group in mentioned or [g for _, g in lists] for word in group))
        if not options:
            raise ValueError(
                f"CLIP can only choose among words, and {question.text!r} comes without any: give ZeroShot(model, "
                "vocabulary=[...]) or Question(text, options=[...])"
            )
        return options

    def _lists(self) -> Vocabulary:
        vocabulary: Any = self.vocabulary
        bundle = find_bundle(self.model)
        return tuple(bundle.vocabulary()) if bundle and bundle.vocabulary and not vocabulary else vocabulary


def _as_vocabulary(value: object) -> Vocabulary:
    if isinstance(value, Mapping):
        pairs = [(str(name), tuple(group)) for name, group in value.items()]
    elif isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"the vocabulary is {value!r}; possible: a list of words, or {{'pet': ['cat', 'dog'], ...}}")
    elif value and all(isinstance(word, str) for word in value):
        pairs = [("", tuple(value))]
    else:
        pairs = [(name, tuple(group)) for name, group in value]
    if any(not group or not all(isinstance(word, str) and word.strip() for word in group) for _, group in pairs):
        raise ValueError(f"the vocabulary {value!r} has a list without words, or a word that is no text")
    return tuple(pairs)


@lru_cache(maxsize=2)
def _load(model: str, device: str) -> Clip:
    bundle = find_bundle(model)
    if bundle is not None and bundle.clip is not None:
        return bundle.clip()
    from negguide.metrics.clip import Clip

    return Clip.load(model, device)


@lru_cache(maxsize=4096)
def _text(model: str, device: str, text: str) -> Tensor:
    return _load(model, device).texts([text])[0]
