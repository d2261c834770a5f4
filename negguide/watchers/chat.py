"""Watchers that talk: transformers image-text-to-text models with a chat template (Qwen2.5-VL, SmolVLM, LLaVA, ...)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from negguide.watchers import generation
from negguide.watchers.protocol import Answer, Question
from negguide.watchers.registry import WatcherConfig, register_class

if TYPE_CHECKING:
    from PIL.Image import Image


@register_class
@dataclasses.dataclass(frozen=True)
class ImageTextToText(WatcherConfig):
    """A transformers image-text-to-text model, asked through its chat template: greedy, short, batched.

    `model`: hub id or folder of any model of `AutoModelForImageTextToText` whose processor has a chat template.
    `instruction` stands before every question, `choice` after those with options. `device`, `dtype`: see
    `negguide.watchers.generation.load`. `batch`: conversations per `generate`; questions and pictures share a batch.
    """

    name: ClassVar[str] = "chat"

    model: str = "HuggingFaceTB/SmolVLM-256M-Instruct"
    instruction: str = "Answer with one word or a short noun phrase."
    choice: str = "Choose one of: {options}."
    device: str | None = None
    dtype: str | None = None
    batch: int = 16
    max_new_tokens: int = 12

    def __post_init__(self) -> None:
        generation.check_dtype(self.dtype)
        if self.batch < 1 or self.max_new_tokens < 1:
            raise ValueError("batch and max_new_tokens are at least 1")

    def __call__(self, images: Sequence[Image], questions: Sequence[Question], /) -> list[list[Answer]]:
        """N pictures, Q questions -> N rows of Q answers. `ValueError` for a processor without a chat template."""
        loaded = generation.load("AutoModelForImageTextToText", self.model, self.device, self.dtype)
        if not getattr(loaded.processor, "chat_template", None):
            raise ValueError(
                f"{self.model!r} has no chat template, so it cannot be asked; take an instruction-tuned model, or "
                "VisualQuestionAnswering for BLIP and ViLT"
            )
        loaded.tokenizer.padding_side = "left"  # what is generated then follows every question directly
        pairs = [(image.convert("RGB"), self._text(question)) for image in images for question in questions]
        answers: list[Answer] = []
        for start in range(0, len(pairs), self.batch):
            answers += self._answers(loaded, pairs[start : start + self.batch])
        return [answers[at : at + len(questions)] for at in range(0, len(answers), len(questions))]

    def _text(self, question: Question) -> str:
        instruction = "Answer with yes or no." if question.about else self.instruction
        choice = self.choice.format(options=", ".join(question.options)) if question.options else ""
        return " ".join(part for part in (instruction, question.text, choice) if part)

    def _answers(self, loaded: generation.Loaded, pairs: Sequence[tuple[Image, str]]) -> list[Answer]:
        import torch

        batch = loaded.processor.apply_chat_template(
            [_conversation(image, text) for image, text in pairs],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            padding=True,
        )
        options = {"return_dict_in_generate": True, "output_scores": True, "do_sample": False, "num_beams": 1}
        with torch.inference_mode():
            output = loaded.model.generate(**loaded.inputs(batch), max_new_tokens=self.max_new_tokens, **options)
        return generation.read(output, loaded.tokenizer)


def _conversation(image: Image, text: str) -> list[dict[str, Any]]:
    content = [{"type": "image", "image": image}, {"type": "text", "text": text}]
    return [{"role": "user", "content": content}]
