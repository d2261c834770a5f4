"""The Toybox tokenizer: a stock `CLIPTokenizer` whose byte-pair merges make every word of the grammar one token."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from negguide.toybox.world.captions import vocabulary
from negguide.versions import byte_pair_tokenizer

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

MAX_LENGTH = 32
"""Tokens per text, start and end included. A text beyond it is cut, as in every CLIP model."""

START, END = "<|startoftext|>", "<|endoftext|>"
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789,.:;!?-'()"
END_OF_WORD = "</w>"


def make_tokenizer() -> CLIPTokenizer:
    """The tokenizer of all Toybox models, deterministic in the grammar; letters serve for words it does not know.

    Byte-pair training that runs until nothing is left to merge makes one token of every word it has seen.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    trained = Tokenizer(models.BPE(end_of_word_suffix=END_OF_WORD))
    trained.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=100_000,
        min_frequency=1,
        special_tokens=[START, END, *(letter + END_OF_WORD for letter in ALPHABET)],
        initial_alphabet=list(ALPHABET),
        end_of_word_suffix=END_OF_WORD,
        show_progress=False,
    )
    trained.train_from_iterator([" ".join(vocabulary())], trainer)
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    return byte_pair_tokenizer(CLIPTokenizer, model["vocab"], merges, model_max_length=MAX_LENGTH)
