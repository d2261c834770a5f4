"""One call of a pipeline: its arguments by name, and the same call with another text."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from negguide.integration.probe import clone_generators


class Call:
    """Arguments that a user gave, bound to names.

    `arguments` holds what was given; `complete` adds the pipeline's defaults. Whoever hands them to a pipeline copies
    the containers: Z-Image writes into the caller's prompt list.
    """

    def __init__(self, cls: type, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        bound = inspect.signature(cls.__call__).bind(None, *args, **kwargs)
        self.cls = cls
        self.parameters = self.parameters_of(cls)
        self.arguments = self._flat(bound)
        bound.apply_defaults()
        self.complete = self._flat(bound)
        # Generators as they were before the run drew from them: probes during the run then start from the same noise.
        self._generators = {key: clone_generators(value) for key, value in self.arguments.items() if "generator" in key}

    @staticmethod
    def parameters_of(cls: type) -> Mapping[str, inspect.Parameter]:
        """What a pipeline class can be called with."""
        return inspect.signature(cls.__call__).parameters

    def _flat(self, bound: inspect.BoundArguments) -> dict[str, Any]:
        named = dict(list(bound.arguments.items())[1:])
        for name, parameter in self.parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                named |= named.pop(name, {})
        return named

    @property
    def prompt_count(self) -> int | None:
        """Length of the prompt list; None where the prompt is one string."""
        prompt = self.complete.get("prompt")
        if isinstance(prompt, (list, tuple)):
            return len(prompt)
        embeds = self.complete.get("prompt_embeds")
        return None if prompt is not None or embeds is None else len(embeds)

    @property
    def has_negative(self) -> bool:
        """Whether the user said what stands in the negative place, as text or as embeddings."""
        return any(
            value is not None
            for key, value in self.complete.items()
            if key.startswith("negative_") and ("prompt" in key or "embeds" in key) and "ip_adapter" not in key
        )

    @property
    def says_negative(self) -> bool:
        """Whether that is more than the empty text."""
        texts = self.complete.get("negative_prompt")
        if texts is None:
            return self.has_negative
        return any(text.strip() for text in ([texts] if isinstance(texts, str) else texts))

    def texts(self, prompt: str | tuple[str, ...]) -> str | list[str]:
        """A condition's text in the form of the call's prompt: one string, or one per prompt."""
        count = self.prompt_count
        if isinstance(prompt, str):
            return prompt if count is None else [prompt] * count
        if len(prompt) != (count or 1):
            raise ValueError(
                f"a condition has {len(prompt)} texts {prompt!r}, the call has {count or 1} prompt(s); "
                "give one string for all prompts or one text per prompt"
            )
        return prompt[0] if count is None else list(prompt)

    def probing(self, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The call as a probe makes it: generators as they were when the user called."""
        return {**self.arguments, **self._generators, **(changes or {})}

    def with_negative(self, prompt: str | tuple[str, ...] | None) -> dict[str, Any]:
        """The same call with another negative prompt; None: as if none had been given."""
        kept = {key: value for key, value in self.probing().items() if not _is_negative(key)}
        return kept if prompt is None else {**kept, "negative_prompt": self.texts(prompt)}

    def with_own_negative_as_prompt(self) -> dict[str, Any]:
        """The same call with what it says for the negative place, text or embeddings, as its prompt; "" if nothing."""
        if not self.has_negative:
            return self.with_prompt("")
        kept = {k: v for k, v in self.probing().items() if not k.startswith(("negative_", "prompt", "pooled_prompt"))}
        negative = {k.removeprefix("negative_"): v for k, v in self.probing().items() if _is_negative(k)}
        return {**kept, **negative}

    def own_negatives(self, rows: int) -> list[str]:
        """The call's own negative prompt for each of its `rows` images; "" where it has none in words."""
        return [text or "" for text in self._spread(self.complete.get("negative_prompt") or "", rows)]

    def own_prompts(self, rows: int) -> list[str]:
        """The call's prompt for each of its `rows` images; "" where it was given as embeddings."""
        return [text or "" for text in self._spread(self.complete.get("prompt") or "", rows)]

    def with_negatives(self, texts: Sequence[str]) -> dict[str, Any]:
        """The same call with a prompt, and a negative one, for each of its images."""
        kept = {key: value for key, value in self._for_images(len(texts)).items() if not _is_negative(key)}
        return {**kept, "negative_prompt": list(texts)}

    def with_prompts(self, texts: Sequence[str]) -> dict[str, Any]:
        """The same call with another prompt for each of its images, for pipelines that take no negative one."""
        kept = {k: v for k, v in self._for_images(len(texts)).items() if not k.startswith(("prompt", "pooled_prompt"))}
        return {**kept, "prompt": list(texts)}

    def _for_images(self, rows: int) -> dict[str, Any]:
        changed = self.probing()
        for key, value in changed.items():
            if key.startswith(("prompt", "pooled_prompt")) and value is not None:
                changed[key] = self._spread(value, rows)
        numbers = {key: 1 for key in ("num_images_per_prompt", "num_videos_per_prompt") if key in self.parameters}
        return {**changed, **numbers}

    def _spread(self, value: Any, rows: int) -> Any:
        """What is said once, or once per prompt, said for each image."""
        if isinstance(value, str):
            return [value] * rows
        each = rows // (self.prompt_count or 1)
        if hasattr(value, "repeat_interleave"):
            return value.repeat_interleave(each, dim=0)
        return [item for item in value for _ in range(each)]

    def with_prompt(self, prompt: str | tuple[str, ...]) -> dict[str, Any]:
        """The same call with another prompt, for pipelines that take no negative one."""
        kept = {
            key: value
            for key, value in self.probing().items()
            if not key.startswith(("prompt_", "pooled_prompt")) or key == "prompt"
        }
        return {**kept, "prompt": self.texts(prompt)}


def _is_negative(argument: str) -> bool:
    """Whether an argument says what stands in the negative place."""
    return (
        argument.startswith("negative_")
        and "ip_adapter" not in argument
        and ("prompt" in argument or "embeds" in argument)
    )
