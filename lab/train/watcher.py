"""The watcher: how the small `BlipForQuestionAnswering` that answers questions about Toybox pictures is trained and written."""

from __future__ import annotations

import string
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.train.common import Settings, Trainer, attention_kernels, autocast, device
from lab.train.data import SIZE, Dataset
from lab.train.half_formed import HalfFormed
from lab.train.oracle import losses
from lab.train.quiz import HARDER, Pair, Practice, quiz_words
from lab.train.watcher_batches import MORE_QUESTIONS, QUESTIONS, SHARES, Batches
from negguide.toybox.oracle_model import HEADS

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
    from transformers import BertTokenizer, BlipForQuestionAnswering

SETTINGS = Settings(steps=2000, batch=48, lr=1.5e-3, ema=0.997, warmup=150, weight_decay=0.03, decay_from=0.3, seed=5)
"""Pictures per step: renders slightly spoiled, the same as the preview shows them, and half-formed ones."""

READING = Settings(steps=1500, batch=36, lr=1.5e-3, ema=0.995, warmup=50, weight_decay=0.03, decay_from=0.3, seed=15)
"""Then reading alone, with the eye as it is: whether a named thing is there takes longer to learn than what is there."""

WHOLE = Settings(steps=1200, batch=36, lr=6e-4, ema=0.995, warmup=50, weight_decay=0.03, decay_from=0.2, seed=25)
"""Then the eye too, on the same harder questions: what is worn and in which style needs better sight."""

FINE = Settings(steps=2400, batch=36, lr=8e-4, ema=0.997, warmup=50, weight_decay=0.03, decay_from=0.2, seed=35)
"""At last the whole on finer questions: most pictures have no style to speak of, and a noisy one was called clean."""

AID: Final = 0.25
"""Weight of the heads that read every attribute off the vision tokens; they teach the eye faster, and are not kept."""
COPY: Final = 2.0
COPIED_LAYER: Final = 3
"""Weight of the distance of the vision tokens after that layer from the bundled CLIP's features of the clean picture at the
same places: on little data a transformer learns faster with a convolutional net for a model (arXiv:2207.10026). The oracle,
which judges, has no part in this."""
WIDTH: Final = 128
TAUGHT: Final = 192
PATCH: Final = 8


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
    _see_near_things_first(model.vision_model)
    return model


@torch.no_grad()
def _see_near_things_first(eye: Any) -> None:
    """Start the eye so that patches attend to their neighbours, as trained ones do (mimetic initialisation, arXiv:2305.09828).

    Places are told by sines and cosines of both coordinates; per head, queries and keys multiply to 0.7 I, values and
    projection to -0.4 I, with noise of the same size.
    """
    side, quarter = SIZE // PATCH, WIDTH // 4
    angles = torch.arange(side)[:, None] / 30 ** (torch.arange(quarter) / quarter)
    waves = torch.cat([angles.sin(), angles.cos()], 1)
    grid = torch.cat([waves[:, None].expand(-1, side, -1), waves[None].expand(side, -1, -1)], 2)
    eye.embeddings.position_embedding[0, 1:] = grid.flatten(0, 1)
    for layer in eye.encoder.layers:
        attention = layer.self_attn
        queries, keys, values = attention.qkv.weight.view(3, WIDTH, WIDTH)
        noise = torch.randn(attention.num_heads + 1, WIDTH, WIDTH) / WIDTH**0.5
        for place, rows in enumerate(torch.arange(WIDTH).chunk(attention.num_heads)):
            left, size, right = torch.linalg.svd(0.7 * (noise[place] + torch.eye(WIDTH)))
            queries[rows] = (left * size.sqrt())[:, : len(rows)].T
            keys[rows] = (size.sqrt()[:, None] * right)[: len(rows)]
        left, size, right = torch.linalg.svd(0.4 * (noise[-1] - torch.eye(WIDTH)))
        values.copy_(size.sqrt()[:, None] * right)
        attention.projection.weight.copy_(left * size.sqrt())


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

    `seen`: vision tokens, a row for each of `pairs`. The parts of the model in the order of its own `forward`, questions of
    one length at a time: the decoder looks at all that the questions' encoder gives, padding too.
    """
    by_length: dict[int, list[int]] = {}
    for place, (question, _) in enumerate(pairs):
        by_length.setdefault(len(_ids(question)), []).append(place)
    pad, sums, tokens, right = make_words().pad_token_id, [], 0, []
    for places in by_length.values():
        asked, answers = (padded([pairs[place][part] for place in places]) for part in (0, 1))
        read = model.text_encoder(asked, encoder_hidden_states=seen[places], return_dict=False)[0]
        logits = model.text_decoder(input_ids=answers[:, :-1], encoder_hidden_states=read).logits.float()
        wanted = answers[:, 1:]
        sums.append(F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=pad, reduction="sum"))
        tokens += int((wanted != pad).sum())
        right.append(logits[:, 0].argmax(1) == wanted[:, 0])
    return torch.stack(sums).sum() / tokens, torch.cat(right).float().mean()


class Teacher(nn.Module):
    """Features of a picture at 8x8 places, (B, 64, 192), of the bundled CLIP's second stage."""

    def __init__(self) -> None:
        super().__init__()
        from negguide.toybox.clip import load_clip

        self.visual: Any = load_clip()[0].visual.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, 64, 64) in [-1, 1]."""
        v = self.visual
        found: Tensor = v.layer2(v.layer1(v.stem(pictures.contiguous(memory_format=torch.channels_last))))
        return found.flatten(2).transpose(1, 2)


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
    teacher, copier = Teacher().to(device()).eval(), nn.Linear(WIDTH, TAUGHT)
    trainer = Trainer(nn.ModuleDict({"watcher": model, "aids": aids, "copier": copier}), settings, folder)
    torch.manual_seed(settings.seed + trainer.step)
    source = Batches(data, latents, half, nn.Module.to(preview, device()), settings, trainer.step)
    with attention_kernels():
        while trainer.step < settings.steps:
            pictures, clean, truth, pairs = next(source)
            with autocast():
                eye = model.vision_model(pictures, output_hidden_states=True)
                seen = eye.last_hidden_state
                copied = copier(eye.hidden_states[COPIED_LAYER][:, 1:]).float()
                taught = teacher(clean).float()
                loss, right = answer_loss(model, seen.repeat_interleave(QUESTIONS, 0), pairs)
                pooled = seen[:, 1:].mean(1)
                logits = {name: head(pooled).float() for name, head in aids.items()}
            parts = losses(logits, truth)
            kinds = (logits["kind"].argmax(1) == truth["kind"]).float()
            thirds = kinds.split([round(share * settings.batch) for share in SHARES])
            figures = {
                f"kind {name}": part.mean() for name, part in zip(("drawn", "shown", "half"), thirds, strict=True)
            }
            far = 1 - F.cosine_similarity(copied, taught, dim=2).mean()
            total = loss + AID * torch.stack(list(parts.values())).sum() + COPY * far
            trainer.update({"answers": loss, "right": right, "far": far, **figures}, total)
    trainer.finish()
    return model


def train_reading(
    model: BlipForQuestionAnswering,
    data: Dataset,
    latents: Tensor,
    half: HalfFormed,
    preview: AutoencoderTiny,
    folder: Path,
    settings: Settings = READING,
    whole: bool = False,
    practice: Practice = HARDER,
) -> BlipForQuestionAnswering:
    """The later stages, trained (or resumed) from what the one before returns: all but the eye, or the `whole`.

    `practice`: what is asked more often.
    """
    torch.manual_seed(settings.seed)
    trained = nn.ModuleDict({"reads": model.text_encoder.train(), "answers": model.text_decoder.train()})
    eye = nn.Module.to(model.vision_model, device()).train(whole)
    if whole:
        trained["sees"] = eye
    trainer = Trainer(trained, settings, folder)
    torch.manual_seed(settings.seed + trainer.step)
    source = Batches(data, latents, half, nn.Module.to(preview, device()), settings, trainer.step, practice)
    with attention_kernels():
        while trainer.step < settings.steps:
            pictures, _, _, pairs = next(source)
            with autocast():
                with torch.set_grad_enabled(whole):
                    seen = eye(pictures).last_hidden_state
                loss, right = answer_loss(model, seen.repeat_interleave(MORE_QUESTIONS, 0), pairs)
            trainer.update({"answers": loss, "right": right}, loss)
    trainer.finish()
    return model.eval()
