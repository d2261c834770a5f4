"""What a saved folder needs beside what transformers 5 writes, so that transformers 4 reads it too."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file, save_file

TEXT_MODEL = "text_model."
"""What the names of a CLIP text encoder's weights begin with in transformers 4; transformers 5 reads both and writes it not."""


def make_portable(folder: Path) -> None:
    """Complete everything that lies in a folder: vocabularies beside tokenizers, weight names, settings of pictures."""
    for file in sorted(folder.rglob("tokenizer.json")):
        write_vocabulary(file)
    for file in sorted(folder.rglob("config.json")):
        if json.loads(file.read_text()).get("architectures") == ["CLIPTextModel"]:
            name_weights(file.with_name("model.safetensors"))
    for file in sorted(folder.rglob("processor_config.json")):
        settings = json.loads(file.read_text())
        _write(file.with_name("preprocessor_config.json"), json.dumps(settings["image_processor"], indent=2) + "\n")


def write_vocabulary(tokenizer: Path) -> None:
    """Beside a `tokenizer.json`: `vocab.json` and `merges.txt` of byte pairs, or the `vocab.txt` of word pieces."""
    model = json.loads(tokenizer.read_text(encoding="utf-8"))["model"]
    if model["type"] == "BPE":
        merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
        _write(tokenizer.with_name("vocab.json"), json.dumps(model["vocab"], ensure_ascii=False) + "\n")
        _write(tokenizer.with_name("merges.txt"), "\n".join(["#version: 0.2", *merges]) + "\n")
    elif model["type"] == "WordPiece":
        words = sorted(model["vocab"], key=model["vocab"].__getitem__)
        _write(tokenizer.with_name("vocab.txt"), "\n".join(words) + "\n")
    else:
        raise ValueError(f"{tokenizer} holds a model of type {model['type']!r}; possible: BPE, WordPiece")


def name_weights(weights: Path) -> None:
    """Give the weights of a `CLIPTextModel` the names that both read."""
    named = {name if name.startswith(TEXT_MODEL) else TEXT_MODEL + name: t for name, t in load_file(weights).items()}
    save_file(named, weights, metadata={"format": "pt"})
    weights.chmod(0o644)


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")
    file.chmod(0o644)
