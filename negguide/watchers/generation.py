"""What the transformers watchers share: loading, and reading generated tokens with their probabilities."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from negguide.versions import dtype_argument
from negguide.watchers.protocol import Answer
from negguide.wording import first_line

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class Loaded:
    """A model in evaluation mode with its processor."""

    model: Any
    processor: Any

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer."""
        return getattr(self.processor, "tokenizer", self.processor)

    def inputs(self, batch: Any) -> dict[str, Any]:
        """A processor's output on the model's device, floating tensors in its dtype."""
        device, dtype = self.model.device, self.model.dtype
        return {
            key: value.to(device, dtype if value.is_floating_point() else None) if hasattr(value, "to") else value
            for key, value in batch.items()
        }


@lru_cache(maxsize=2)
def load(auto: str, model: str, device: str | None, dtype: str | None) -> Loaded:
    """A model of a transformers auto class with its processor, by hub id or folder; the last two are kept.

    `device`: None takes the accelerator if there is one. `dtype`: a name such as "bfloat16"; None takes bfloat16 on
    accelerators, float32 on the CPU. Raises `ValueError` that names the model if it cannot be had.
    """
    import torch
    import transformers

    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    kind = getattr(torch, dtype) if dtype else (torch.float32 if place.type == "cpu" else torch.bfloat16)
    try:
        loaded = getattr(transformers, auto).from_pretrained(model, **dtype_argument(transformers, kind))
        processor = transformers.AutoProcessor.from_pretrained(model)
    except (OSError, ValueError, ImportError) as error:
        raise ValueError(
            f"the watcher's model {model!r} cannot be loaded as {auto} ({first_line(error)}); possible: a folder that "
            "save_pretrained wrote, or the id of a public model on the hub"
        ) from error
    return Loaded(loaded.to(place).eval().requires_grad_(False), processor)


def check_dtype(dtype: str | None) -> None:
    """`ValueError` for a name that is no floating dtype of torch."""
    if dtype not in (None, "float32", "float16", "bfloat16", "float64"):
        raise ValueError(
            f"dtype={dtype!r}; possible: 'float32', 'float16', 'bfloat16', or None to choose by the device"
        )


@dataclasses.dataclass(frozen=True)
class Written:
    """What `greedy` wrote, in the form of transformers' `generate`: `sequences` (B, 1 + T) and T `scores` (B, V)."""

    sequences: Tensor
    scores: tuple[Tensor, ...]


def greedy(logits: Callable[[Tensor], Tensor], begin: Tensor, ends: Sequence[int], most: int) -> Written:
    """The likeliest tokens after `begin` (B, 1), until every row has met one of the tokens `ends`, at most `most`.

    A row that has ended goes on with the first of `ends`.

    Answers are a word or two: for a small model transformers' `generate` takes longer to get ready than to write them.
    `logits`: (B, T) tokens -> (B, T, V).
    """
    import torch

    tokens: Tensor = begin
    scores: list[Tensor] = []
    ended = torch.zeros(len(begin), dtype=torch.bool, device=begin.device)
    last = torch.tensor(ends, device=begin.device)
    while len(scores) < most and not bool(ended.all()):
        scores.append(logits(tokens)[:, -1].float())
        chosen = scores[-1].argmax(1).masked_fill(ended, ends[0])
        tokens = torch.cat([tokens, chosen[:, None]], 1)
        ended = ended | torch.isin(chosen, last)
    return Written(tokens, tuple(scores))


def read(output: Any, tokenizer: Any) -> list[Answer]:
    """Generated sequences with scores -> texts; confidence is the geometric mean of their tokens' probabilities.

    `output`: `Written`, or what `generate(return_dict_in_generate=True, output_scores=True)` returned. A text ends at its first
    special token, whose probability counts only where there is nothing before it.
    """
    import torch

    scores: Sequence[Tensor] = output.scores
    tokens = output.sequences[:, -len(scores) :]
    marks = torch.tensor(sorted(set(tokenizer.all_special_ids)), device=tokens.device)
    over = torch.isin(tokens, marks).cumsum(1) > 0
    steps = zip(scores, tokens.unbind(1), strict=True)
    logs = torch.stack([row.float().log_softmax(-1).gather(1, at[:, None])[:, 0] for row, at in steps], dim=1)
    counted = ~over
    counted[:, 0] = True
    means = logs.where(counted, 0.0).sum(1) / counted.sum(1)
    ids = [[int(t) for t, gone in zip(*row, strict=True) if not gone] for row in _rows(tokens, over)]
    texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
    pairs = zip(texts, means.exp().tolist(), strict=True)
    return [Answer(text.strip(), confidence) for text, confidence in pairs]


def _rows(*tensors: torch.Tensor) -> list[tuple[list[object], ...]]:
    return list(zip(*(tensor.tolist() for tensor in tensors), strict=True))
