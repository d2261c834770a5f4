"""The watcher: how the small `BlipForQuestionAnswering` that answers questions about Toybox pictures is trained and written."""

from __future__ import annotations

import string
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from negguide.toybox.oracle_model import HEADS
from negguide.toybox.train.common import Settings, Trainer, autocast, batches, device, to_model
from negguide.toybox.train.data import SIZE, Dataset
from negguide.toybox.train.half_formed import HalfFormed
from negguide.toybox.train.oracle import UNKNOWN, labels, losses
from negguide.toybox.train.preview import show
from negguide.toybox.train.quiz import Pair, about_nothing, quiz, quiz_words
from negguide.toybox.train.spoil import empty_scenes, spoil

if TYPE_CHECKING:
    from diffusers import AutoencoderTiny
    from transformers import BertTokenizer, BlipForQuestionAnswering

SETTINGS = Settings(steps=2600, batch=48, lr=1.5e-3, ema=0.997, warmup=150, weight_decay=0.03, decay_from=0.3, seed=5)
"""Pictures per step: renders slightly spoiled, the same as the preview shows them, and half-formed ones."""

SHARES: Final = (0.42, 0.25, 0.33)
"""Of renders, of previews of clean latents, and of half-formed pictures in a batch."""
EMPTY: Final = 2
"""Pictures without a thing in a batch."""
QUESTIONS: Final = 2
"""Asked of every picture of a batch."""
AID: Final = 0.25
"""Weight of the heads that read every attribute off the vision tokens; they teach the eye faster, and are not kept."""
WIDTH: Final = 128
PATCH: Final = 8
CLEAN_NOISE: Final = 0.2
"""Largest noise on the clean latents."""


@cache
def make_words() -> BertTokenizer:
    """The tokenizer: a token for each word of the quiz, letters for words it does not know."""
    from transformers import BertTokenizer

    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
    words = dict.fromkeys([*marks, *quiz_words(), *"?.,'-", *letters])
    return BertTokenizer(vocab={word: place for place, word in enumerate(words)}, model_max_length=32)


def make_watcher() -> BlipForQuestionAnswering:
    """About 1.4 M parameters: 64 patches of 8x8 pixels, five layers of sight, two to read with, one to answer."""
    from transformers import BlipConfig, BlipForQuestionAnswering

    words = make_words()
    width = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_attention_heads": 4}
    text = {
        "vocab_size": len(words),
        "encoder_hidden_size": WIDTH,
        "projection_dim": WIDTH,
        "max_position_embeddings": 32,
        "num_hidden_layers": 2,
        "bos_token_id": words.cls_token_id,
        "sep_token_id": words.sep_token_id,
        "eos_token_id": words.sep_token_id,
        "pad_token_id": words.pad_token_id,
    }
    vision = {"image_size": SIZE, "patch_size": PATCH, "num_hidden_layers": 5, "initializer_range": 0.02}
    model = BlipForQuestionAnswering(
        BlipConfig(
            text_config={**text, **width},
            vision_config={**vision, **width, "projection_dim": WIDTH},
            projection_dim=WIDTH,
            image_text_hidden_size=WIDTH,
        )
    )
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
    return model


@cache
def _ids(text: str) -> list[int]:
    ids: list[int] = make_words()(text).input_ids
    return ids


def padded(texts: Sequence[str]) -> Tensor:
    """(N, longest) token ids on the training device."""
    rows = [torch.tensor(_ids(text)) for text in texts]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=make_words().pad_token_id).to(device())


def answer_loss(model: Any, seen: Tensor, pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
    """(cross-entropy of the answers' tokens, share of first words that are right).

    `seen`: vision tokens, a row for each of `pairs`. The parts of the model in the order of its own `forward`, but padding
    is never read.
    """
    pad = make_words().pad_token_id
    asked, answers = padded([question for question, _ in pairs]), padded([answer for _, answer in pairs])
    mask = (asked != pad).long()
    read = model.text_encoder(asked, attention_mask=mask, encoder_hidden_states=seen, return_dict=False)[0]
    logits = model.text_decoder(
        input_ids=answers[:, :-1], encoder_hidden_states=read, encoder_attention_mask=mask
    ).logits.float()
    loss = F.cross_entropy(logits.flatten(0, 1), answers[:, 1:].flatten(), ignore_index=pad)
    return loss, (logits[:, 0].argmax(1) == answers[:, 1]).float().mean()


class Batches:
    """Endless batches: pictures (B, 3, 64, 64), the truth for `losses`, and the pairs of the quiz, picture by picture."""

    def __init__(
        self,
        data: Dataset,
        latents: Tensor,
        half: HalfFormed,
        preview: AutoencoderTiny,
        seed: int,
        batch: int,
        start: int,
    ) -> None:
        self.data, self.latents, self.half, self.preview = data, latents, half, preview
        self.truth = labels(data.scenes)
        self.rng = np.random.default_rng([seed, start, 11])
        self.empties, _ = empty_scenes(1000, seed)
        first, second, third = (round(share * batch) for share in SHARES)
        self.orders = (
            batches(len(data), first, seed, start),
            batches(len(data), second, seed + 1, start),
            batches(len(half.index), third, seed + 2, start),
        )

    def __next__(self) -> tuple[Tensor, dict[str, Tensor], list[Pair]]:
        renders, clean, forming = (torch.from_numpy(next(order)) for order in self.orders)
        renders = renders[torch.from_numpy(self.rng.permutation(len(renders)))]  # `spoil` mixes neighbours
        drawn = to_model(self.data.images[renders.numpy()])
        drawn[:EMPTY] = to_model(self.empties[self.rng.integers(len(self.empties), size=EMPTY)])
        latents = self.latents[clean].float()
        latents = latents + torch.rand(len(latents), 1, 1, 1) * CLEAN_NOISE * torch.randn_like(latents)
        shown = show(self.preview, torch.cat([latents, self.half.latents[forming].float()]))
        index = torch.cat([renders, clean, self.half.index[forming]])
        truth = {name: values[index].clone().to(device()) for name, values in self.truth.items()}
        for name, values in truth.items():
            values[:EMPTY] = HEADS["kind"].index("none") if name == "kind" else UNKNOWN
        pairs = [pair for _ in range(EMPTY) for pair in about_nothing(self.rng, QUESTIONS)]
        pairs += [pair for i in index[EMPTY:].tolist() for pair in quiz(self.data.scenes[i], self.rng, QUESTIONS)]
        return torch.cat([spoil(drawn), to_model(shown.numpy())]), truth, pairs


def train_watcher(
    data: Dataset,
    latents: Tensor,
    half: HalfFormed,
    preview: AutoencoderTiny,
    folder: Path,
    settings: Settings = SETTINGS,
) -> BlipForQuestionAnswering:
    """Train (or resume) it and return it with averaged weights.

    Args:
        latents: scaled latents (N, 8, 16, 16) of `data`.
        half: half-formed pictures of `data`.
        preview: what shows latents to a watcher.
    """
    torch.manual_seed(settings.seed)
    model = make_watcher().train()
    aids = nn.ModuleDict({name: nn.Linear(WIDTH, len(values)) for name, values in HEADS.items()})
    trainer = Trainer(nn.ModuleDict({"watcher": model, "aids": aids}), settings, folder)
    torch.manual_seed(settings.seed + trainer.step)
    source = Batches(data, latents, half, preview.to(device()), settings.seed, settings.batch, trainer.step)
    while trainer.step < settings.steps:
        pictures, truth, pairs = next(source)
        with autocast():
            seen = model.vision_model(pictures).last_hidden_state
            loss, right = answer_loss(model, seen.repeat_interleave(QUESTIONS, 0), pairs)
            pooled = seen[:, 1:].mean(1)
            logits = {name: head(pooled).float() for name, head in aids.items()}
        parts = losses(logits, truth)
        kinds = (logits["kind"].argmax(1) == truth["kind"]).float()
        thirds = kinds.split([round(share * settings.batch) for share in SHARES])
        figures = {f"kind {name}": part.mean() for name, part in zip(("drawn", "shown", "half"), thirds, strict=True)}
        trainer.update(
            {"answers": loss, "right": right, **figures}, loss + AID * torch.stack(list(parts.values())).sum()
        )
    trainer.finish()
    return model
