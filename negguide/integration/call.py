"""One call of a pipeline: its arguments by name, and the same call with another text."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
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
        kept = {
            key: value
            for key, value in self.probing().items()
            if not (key.startswith("negative_") and "ip_adapter" not in key and ("prompt" in key or "embeds" in key))
        }
        return kept if prompt is None else {**kept, "negative_prompt": self.texts(prompt)}

    def with_prompt(self, prompt: str | tuple[str, ...]) -> dict[str, Any]:
        """The same call with another prompt, for pipelines that take no negative one."""
        kept = {
            key: value
            for key, value in self.probing().items()
            if not key.startswith(("prompt_", "pooled_prompt")) or key == "prompt"
        }
        return {**kept, "prompt": self.texts(prompt)}
