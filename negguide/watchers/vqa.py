"""Watchers made for visual question answering: ViLT (chooses among known answers), BLIP and BLIP-2 (write them)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from negguide.names import find_bundle
from negguide.watchers import generation
from negguide.watchers.protocol import Answer, Question
from negguide.watchers.registry import WatcherConfig, register_class

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

_TEMPLATES = {"blip-2": "Question: {question} Answer:"}


@register_class
@dataclasses.dataclass(frozen=True)
class VisualQuestionAnswering(WatcherConfig):
    """A transformers visual-question-answering model. Choose it for short questions; ViLT is the fastest.

    `model`: hub id or folder of a ViLT, BLIP or BLIP-2 model, or "toybox" for the bundled one. `top`: answers per
    question, for models that choose.
    `device`, `dtype`: see `negguide.watchers.generation.load`. `batch`: pictures per forward. `max_new_tokens`: of models that
    write. Loaded at the first question, and kept. ViLT shuffles its patches by torch's global random state, which is given back
    unless it looks asynchronously: then give the call a generator.

    >>> VisualQuestionAnswering("Salesforce/blip-vqa-base", device="cuda:1").top
    1
    """

    name: ClassVar[str] = "vqa"

    model: str = "dandelin/vilt-b32-finetuned-vqa"
    top: int = 1
    device: str | None = None
    dtype: str | None = None
    batch: int = 16
    max_new_tokens: int = 8

    def __post_init__(self) -> None:
        generation.check_dtype(self.dtype)
        if self.top < 1 or self.batch < 1 or self.max_new_tokens < 1:
            raise ValueError("top, batch and max_new_tokens are at least 1")

    def __call__(self, images: Sequence[Image], questions: Sequence[Question], /) -> list[list[list[Answer]]]:
        """N pictures, Q questions -> N rows of Q lists of answers. Each picture is answered as if alone."""
        loaded = generation.load("AutoModelForVisualQuestionAnswering", _place_of(self.model), self.device, self.dtype)
        pictures = [image.convert("RGB") for image in images]
        if loaded.model.config.model_type == "blip":
            parts = (pictures[at : at + self.batch] for at in range(0, len(pictures), self.batch))
            return [row for part in parts for row in self._at_one_glance(loaded, part, questions)]
        columns = [self._column(loaded, pictures, question) for question in questions]
        return [list(row) for row in zip(*columns, strict=True)]

    def _at_one_glance(
        self, loaded: generation.Loaded, images: list[Image], questions: Sequence[Question]
    ) -> list[list[list[Answer]]]:
        """BLIP's own `generate` part by part, so that its eye is used once for all questions.

        Questions of one length are read together: its decoder would look at padding as at words. What it
        writes to a question of yes or no ends with that word.
        """
        import torch

        model, answers = loaded.model, [[[]] * len(questions) for _ in images]  # type: ignore[var-annotated]
        pixels = loaded.inputs(loaded.processor.image_processor(images, return_tensors="pt"))["pixel_values"]
        tokens = [_tokens(loaded, question.text) for question in questions]
        with torch.inference_mode():
            seen = model.vision_model(pixels).last_hidden_state
            sorts = [(len(ids), question.about is None) for ids, question in zip(tokens, questions, strict=True)]
            for sort in dict.fromkeys(sorts):
                places = [place for place, own in enumerate(sorts) if own == sort]
                asked = torch.stack([tokens[place] for place in places]).repeat(len(images), 1)
                enough = () if sort[1] else _yes_and_no(loaded)
                written = self._written(model, asked, seen.repeat_interleave(len(places), 0), enough)
                cells = [(row, place) for row in range(len(images)) for place in places]
                for (row, place), answer in zip(cells, generation.read(written, loaded.tokenizer), strict=True):
                    answers[row][place] = [answer]
        return answers

    def _written(self, model: Any, asked: Tensor, seen: Tensor, enough: tuple[int, ...]) -> generation.Written:
        read = model.text_encoder(asked, encoder_hidden_states=seen, return_dict=False)[0]
        return generation.greedy(
            lambda ids: model.text_decoder(ids, encoder_hidden_states=read, use_cache=False).logits,
            asked.new_full((len(asked), 1), model.decoder_start_token_id),
            (model.config.text_config.sep_token_id, *enough),
            self.max_new_tokens,
        )

    def _column(self, loaded: generation.Loaded, images: list[Image], question: Question) -> list[list[Answer]]:
        """One question of all pictures: texts of one length, for models that read padding as words."""
        answers: list[list[Answer]] = []
        for start in range(0, len(images), self.batch):
            answers += self._answers(loaded, images[start : start + self.batch], question)
        return answers

    def _answers(self, loaded: generation.Loaded, images: list[Image], question: Question) -> list[list[Answer]]:
        import torch

        template = _TEMPLATES.get(loaded.model.config.model_type, "{question}")
        texts = [template.format(question=question.text)] * len(images)
        batch = loaded.inputs(loaded.processor(images=images, text=texts, return_tensors="pt"))
        with torch.inference_mode():
            if loaded.model.can_generate():
                options = {"return_dict_in_generate": True, "output_scores": True, "do_sample": False, "num_beams": 1}
                output = loaded.model.generate(**batch, max_new_tokens=self.max_new_tokens, **options)
                return [[answer] for answer in generation.read(output, loaded.tokenizer)]
            shares = loaded.model(**batch).logits.float().sigmoid()
        best = shares.topk(min(self.top, shares.shape[1]))
        labels = loaded.model.config.id2label
        rows = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        return [[Answer(labels[at], share) for share, at in zip(*row, strict=True)] for row in rows]


def _place_of(model: str) -> str:
    """The folder of a bundle's watcher for its name ("toybox"); any other model is its own."""
    bundle = find_bundle(model)
    return model if bundle is None or bundle.watcher is None else str(bundle.watcher())


@lru_cache(maxsize=256)
def _tokens(loaded: generation.Loaded, text: str) -> Tensor:
    """(T,) ids of a question, which will be asked again."""
    ids: Tensor = loaded.inputs(loaded.tokenizer(text, return_tensors="pt"))["input_ids"][0]
    return ids


@lru_cache(maxsize=2)
def _yes_and_no(loaded: generation.Loaded) -> tuple[int, ...]:
    """The tokens of these words, where they are one each."""
    tokenized = (loaded.tokenizer(word, add_special_tokens=False)["input_ids"] for word in ("yes", "no"))
    return tuple(ids[0] for ids in tokenized if len(ids) == 1)
