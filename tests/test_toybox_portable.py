"""The bundled models are read by transformers 4 and 5 alike: vocabularies, weight names, settings of pictures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoTokenizer, CLIPTextModel, CLIPTokenizer

from lab.train.portable import make_portable
from negguide.toybox.load import assets_dir, load_pipeline
from negguide.toybox.world.captions import vocabulary

TOYBOX = assets_dir() / "toybox"
TOKENIZERS = sorted(file.parent for file in TOYBOX.rglob("tokenizer.json"))
TEXTS = ["a red cat on grass", "no hat, 2 glasses!?", "", " ".join(vocabulary()[:24])]


@pytest.mark.parametrize("folder", TOKENIZERS, ids=lambda folder: str(folder.relative_to(TOYBOX)))
def test_every_tokenizer_reads_as_its_fast_form_says(folder: Path) -> None:
    kind = AutoTokenizer if folder.name == "watcher" else CLIPTokenizer
    fast, stock = Tokenizer.from_file(str(folder / "tokenizer.json")), kind.from_pretrained(str(folder))
    for text in TEXTS:
        assert stock(text).input_ids == fast.encode(text).ids, text


def test_what_is_bundled_is_what_the_export_writes(tmp_path: Path) -> None:
    for folder in TOYBOX.iterdir():
        shutil.copytree(folder, tmp_path / folder.name)
    added = [*tmp_path.rglob("vocab.*"), *tmp_path.rglob("merges.txt"), *tmp_path.rglob("preprocessor_config.json")]
    assert len(added) == 2 * len(TOKENIZERS), "one vocabulary each, and merges or the settings of pictures"
    for file in added:
        file.unlink()
    make_portable(tmp_path)
    for file in (file for file in TOYBOX.rglob("*") if file.is_file()):
        assert (tmp_path / file.relative_to(TOYBOX)).read_bytes() == file.read_bytes(), file


@pytest.mark.parametrize("name", ["sd", "few-step"])
def test_every_weight_of_the_text_encoder_is_read(name: str) -> None:
    stored = load_file(TOYBOX / name / "text_encoder" / "model.safetensors")
    loaded = load_pipeline(name).text_encoder.state_dict()
    short = {key.removeprefix("text_model."): value for key, value in loaded.items() if "position_ids" not in key}
    assert {key.removeprefix("text_model.") for key in stored} == set(short)
    assert all(torch.equal(short[key.removeprefix("text_model.")], value.float()) for key, value in stored.items())


def test_the_export_names_the_weights_of_a_fresh_encoder_for_both(tmp_path: Path) -> None:
    model = CLIPTextModel.from_pretrained(TOYBOX / "sd" / "text_encoder")
    model.save_pretrained(tmp_path, safe_serialization=True)
    make_portable(tmp_path)
    assert all(name.startswith("text_model.") for name in load_file(tmp_path / "model.safetensors"))
    again = CLIPTextModel.from_pretrained(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), model.state_dict().values(), strict=True))


def test_vocabularies_hold_what_the_tokenizer_holds() -> None:
    for folder in TOKENIZERS:
        model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
        if model["type"] == "BPE":
            assert json.loads((folder / "vocab.json").read_text(encoding="utf-8")) == model["vocab"]
            first, *merges = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
            assert first.startswith("#version") and merges == [" ".join(pair) for pair in model["merges"]]
        else:
            words = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
            assert {word: place for place, word in enumerate(words)} == model["vocab"]
