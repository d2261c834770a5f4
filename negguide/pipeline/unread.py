"""Which words of a text the text encoders do not read: tokenizers cut it, and the probes of a call look on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from negguide.pipeline.intercept import base_class
from negguide.pipeline.text_tokens import converted
from negguide.pipeline.tokenizers import METHODS, is_tokenizer, lock_of

_ENDS = ("", "_2", "_3", "_4")


@dataclass(frozen=True)
class Cut:
    """What a tokenizer was given and did not read to its end.

    `lost`: its last tokens, marks aside, from the first that is left out.
    """

    tokenizer: Any
    text: str
    limit: int
    lost: tuple[int, ...]


def listening(pipe: object, twin: object, cuts: list[Cut]) -> None:
    """Let the twin of a pipeline use tokenizers that note in `cuts` what they cut; the pipeline's own stay as they are."""
    for end in _ENDS:
        tokenizer = getattr(pipe, f"tokenizer{end}", None)
        if is_tokenizer(tokenizer):
            twin.__dict__[f"tokenizer{end}"] = _noting(tokenizer, cuts)


def unread(pipe: object, cuts: Iterable[Cut], text: str, others: Iterable[str], limit: int | None) -> Iterator[str]:
    """A sentence for each tokenizer that leaves words of `text` out.

    Args:
        pipe: The pipeline.
        cuts: What its tokenizers cut when they were given the text, alone or inside a template.
        text: The text.
        others: Texts that were given to the tokenizers, too, and of which nothing is to be told here.
        limit: The call's `max_sequence_length`, to which some pipelines cut the encoder's output.
    """
    lost = {}
    for end in _ENDS:
        tokenizer = getattr(pipe, f"tokenizer{end}", None)
        if is_tokenizer(tokenizer):
            lost[end] = _lost(pipe, tokenizer, cuts, text, others, limit)
    least = min((len(words) for words, _ in lost.values()), default=0)
    shown = text if len(text) <= 40 else f"{text[:40]}..."
    for end, (words, count) in lost.items():
        if words:
            name = type(getattr(pipe, f"tokenizer{end}")).__name__
            effect = (
                "has no effect" if len(words) == least else "acts through another text encoder, as far as that reads"
            )
            yield (
                f"{shown!r} is longer than what {name} lets its text encoder read ({count} tokens): it is cut, and "
                f"{words!r} {effect}. Shorten it, or give its parts as negatives of their own"
            )


def _lost(
    pipe: Any, tokenizer: Any, cuts: Iterable[Cut], text: str, others: Iterable[str], limit: int | None
) -> tuple[str, int]:
    """(words that a tokenizer leaves out, tokens that it lets through)."""
    text = converted(pipe, text, tokenizer)
    wanted, ids = bare(text), tokenizer(text, add_special_tokens=False, verbose=False).input_ids
    # Longer texts that hold these words may have been cut: prompts of the call, other negatives.
    longer = [plain for plain in map(bare, others) if plain != wanted and wanted in plain]
    lost = [("", 0)]
    for cut in cuts:
        given = bare(cut.text)
        if cut.tokenizer is not tokenizer or wanted not in given or any(other in given for other in longer):
            continue
        behind = given.rpartition(wanted)[2]  # of a template
        count = len(cut.lost) - len(
            tokenizer(behind, add_special_tokens=False, verbose=False).input_ids if behind else ()
        )
        if 0 < count <= len(ids):
            lost.append((tokenizer.decode(cut.lost[:count], skip_special_tokens=True).strip(), cut.limit))
    if limit and "CLIP" not in type(tokenizer).__name__:
        lost.append((tokenizer.decode(ids[limit:], skip_special_tokens=True).strip(), limit))
    return max(lost, key=lambda words_and_limit: len(words_and_limit[0]))


def bare(text: str) -> str:
    """A text without what tokenizers pass over, as pipelines that clean their captions see it."""
    return " ".join(text.casefold().split())


def _noting(tokenizer: object, cuts: list[Cut]) -> object:
    """The same tokenizer, with all that it holds, of a class that notes what is cut."""
    twin: object = object.__new__(_noting_class(base_class(tokenizer)))
    twin.__dict__.update(tokenizer.__dict__, _negguide_cuts=cuts, _negguide_of=tokenizer)
    return twin


@functools.lru_cache(maxsize=32)
def _noting_class(cls: Any) -> type:
    def call(self: Any, text: Any = None, *args: Any, **kwargs: Any) -> object:
        encoding = cls.__call__(self, text, *args, **kwargs)
        if kwargs.get("truncation") and (isinstance(text, str) or _are_texts(text)):
            _note(self._negguide_cuts, self._negguide_of, [text] if isinstance(text, str) else text, kwargs)
        return encoding

    methods = {"__call__": call} | {name: getattr(cls, name) for name in METHODS[1:] if hasattr(cls, name)}
    body = {name: _in_turn(method) for name, method in methods.items()}
    return type(cls.__name__, (cls,), {**body, "__module__": cls.__module__, "__qualname__": cls.__qualname__})


def _in_turn(method: Callable[..., object]) -> Callable[..., object]:
    """A method of a tokenizer's twin, which works with what that tokenizer holds."""

    @functools.wraps(method)
    def waiting(self: Any, *args: Any, **kwargs: Any) -> object:
        with lock_of(self._negguide_of):
            return method(self, *args, **kwargs)

    return waiting


def _are_texts(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)


def _note(cuts: list[Cut], tokenizer: Any, texts: Sequence[str], given: dict[str, Any]) -> None:
    limit = int(given.get("max_length") or tokenizer.model_max_length)
    options = {"verbose": False, "add_special_tokens": given.get("add_special_tokens", True)}
    for text in texts:
        whole = _inner(tokenizer, tokenizer(text, **options).input_ids)
        read = _inner(tokenizer, tokenizer(text, truncation=True, max_length=limit, **options).input_ids)
        cut = Cut(tokenizer, text, limit, tuple(whole[len(read) :]))
        if cut.lost and cut not in cuts:
            cuts.append(cut)


def _inner(tokenizer: Any, ids: list[int]) -> list[int]:
    """The tokens without the marks that stand behind them."""
    marks = set(tokenizer.all_special_ids)
    end = len(ids)
    while end and ids[end - 1] in marks:
        end -= 1
    return ids[:end]
