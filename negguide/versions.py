"""What the versions of diffusers and transformers that we support call differently."""

from __future__ import annotations

import inspect
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

DTYPE_SINCE = {"diffusers": (0, 42), "transformers": (4, 56)}
"""Library -> the version from which on its `from_pretrained` takes `dtype`; before, the argument was `torch_dtype`."""


def dtype_argument(library: ModuleType, dtype: object) -> dict[str, object]:
    """The dtype as an argument of a library's `from_pretrained`.

    Args:
        library: the module `diffusers` or `transformers`.
        dtype: a torch dtype.
    """
    version = tuple(int(part) for part in library.__version__.split(".")[:2])
    return {"dtype" if version >= DTYPE_SINCE[library.__name__] else "torch_dtype": dtype}


def byte_pair_tokenizer(
    kind: type, vocab: Mapping[str, int], merges: Sequence[tuple[str, str]] = (), **more: object
) -> Any:
    """A tokenizer of transformers from its vocabulary, which the class takes itself from 5 on and from files before.

    Args:
        kind: `CLIPTokenizer`, `Qwen2Tokenizer` or another byte-pair class of transformers.
        vocab: token -> number.
        merges: pairs of tokens, the first merged first.
        more: further arguments of the class, such as `model_max_length`.
    """
    if "vocab" in inspect.signature(kind).parameters:
        return kind(vocab=dict(vocab), merges=list(merges), **more)
    with tempfile.TemporaryDirectory() as folder:
        vocab_file, merges_file = Path(folder) / "vocab.json", Path(folder) / "merges.txt"
        vocab_file.write_text(json.dumps(vocab), encoding="utf-8")
        lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
        merges_file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return kind(vocab_file=str(vocab_file), merges_file=str(merges_file), **more)
