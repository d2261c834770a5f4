"""Tokenizers serve one thread at a time: fast ones keep how to pad and to cut as a state that the next call changes."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from negguide.pipeline.intercept import entered
from negguide.types import Original, PipelineLike

METHODS = ("__call__", "encode", "encode_plus", "batch_encode_plus", "tokenize")
"""What a tokenizer does with that state."""

_locks: weakref.WeakKeyDictionary[object, object] = weakref.WeakKeyDictionary()
_choosing = threading.Lock()


def is_tokenizer(value: object) -> bool:
    """Whether a part of a pipeline is a tokenizer of transformers."""
    from transformers import PreTrainedTokenizerBase

    return isinstance(value, PreTrainedTokenizerBase)


def lock_of(tokenizer: object) -> Any:
    """The lock that is held while a tokenizer works; the thread that holds it may take it again."""
    with _choosing:
        return _locks.setdefault(tokenizer, threading.RLock())


@contextmanager
def one_at_a_time(pipe: PipelineLike) -> Iterator[None]:
    """For the length of a block, whoever uses a tokenizer of this pipeline, in whatever thread, waits for its turn.

    Pipelines on the same weights share their tokenizers. Without this, two threads that encode at the same time may get
    texts of each other's length: another picture, or tensors that do not fit.
    """
    parts = [part for value in tuple(vars(pipe).values()) for part in (value, getattr(value, "tokenizer", None))]
    with ExitStack() as stack:
        for tokenizer in {id(part): part for part in parts if is_tokenizer(part)}.values():
            lock = lock_of(tokenizer)

            def wait(original: Original, *args: Any, _lock: Any = lock, **kwargs: Any) -> object:
                with _lock:
                    return original(*args, **kwargs)

            names = [name for name in METHODS if hasattr(tokenizer, name)]
            stack.enter_context(entered(tokenizer, dict.fromkeys(names, wait)))
        yield
