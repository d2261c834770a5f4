"""One call of a pipeline: its arguments by name, and the same call with another text."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from negguide.pipeline.probe import clone_generators

_ARGS, _KWARGS = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD


_NUMBERS = ("num_images_per_prompt", "num_videos_per_prompt")


class Call:
    """Arguments that a user gave, bound to names.

    `arguments` holds what was given; `complete` adds the pipeline's defaults. Whoever hands them to a pipeline copies
    the containers: Z-Image writes into the caller's prompt list.
    """

    def __init__(self, cls: type, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
        self.cls = cls
        self.parameters = self.parameters_of(cls)
        bound = inspect.Signature(list(self.parameters.values())).bind(*args, **kwargs)
        self._given = len(args)
        self.arguments = self._flat(bound)
        bound.apply_defaults()
        self.complete = self._flat(bound)
        # Generators as they were before the run drew from them: probes during the run then start from the same noise.
        self._generators = {key: clone_generators(value) for key, value in self.arguments.items() if "generator" in key}

    @staticmethod
    def parameters_of(cls: type) -> Mapping[str, inspect.Parameter]:
        """What a pipeline class can be called with; `*args` and `**kwargs` of a user's subclass stand for its parent's."""
        callers = [ancestor for ancestor in cls.__mro__ if "__call__" in vars(ancestor)]
        merged: dict[str, inspect.Parameter] = {}
        by_position = True
        for ancestor, parent in zip(callers, [*callers[1:], None], strict=True):
            own = list(inspect.signature(vars(ancestor)["__call__"]).parameters.values())[1:]
            for parameter in own:
                merged.setdefault(parameter.name, parameter if ancestor is cls else _inherited(parameter, by_position))
            rest = {parameter.kind: parameter.name for parameter in own if parameter.kind in (_ARGS, _KWARGS)}
            if _KWARGS not in rest or parent is None or ancestor.__module__.startswith("diffusers."):
                break
            by_position &= _ARGS in rest
            for name in rest.values():
                del merged[name]
        return dict(sorted(merged.items(), key=lambda item: item[1].kind))

    def _flat(self, bound: inspect.BoundArguments) -> dict[str, Any]:
        named = dict(bound.arguments)
        for name, parameter in self.parameters.items():
            if parameter.kind is _KWARGS:
                named |= named.pop(name, {})
        return named

    @property
    def positional(self) -> tuple[str, ...]:
        """Names of the arguments that a class with `*args` was given by position: it may read them there."""
        own = inspect.signature(self.cls.__call__).parameters.values()
        if not any(parameter.kind is _ARGS for parameter in own):
            return ()
        return tuple(self.parameters)[: self._given]

    @property
    def prompt_count(self) -> int | None:
        """Length of the prompt list; None where the prompt is one string."""
        prompt = self.complete.get("prompt")
        if isinstance(prompt, (list, tuple)):
            return len(prompt)
        embeds = self.complete.get("prompt_embeds")
        return None if prompt is not None or embeds is None else len(embeds)

    @property
    def is_alike_for_all(self) -> bool:
        """Whether its images may differ in their prompts only: there is one prompt, or nothing else is given as pictures."""
        if self.prompt_count in (None, 1):
            return True
        others = {k: v for k, v in self.arguments.items() if "generator" not in k and "prompt" not in k}
        return not any(hasattr(v, "shape") or isinstance(v, (list, tuple)) for v in others.values())

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

    def left_out(self, rows: int) -> str | None:
        """What to tell where the pipeline makes fewer images than were asked for by number, or None."""
        for name in _NUMBERS:
            wanted = self.complete.get(name) or 1
            if wanted > 1 and rows == (self.prompt_count or 1):
                return (
                    f"{self.cls.__name__} makes one per prompt although {name}={wanted}, so methods that compare images "
                    "have nothing to compare; give it the same prompt several times in a list"
                )
        return None

    def texts(self, prompt: str | tuple[str | None, ...]) -> Any:
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

    def probing(self, changes: Mapping[str, object] | None = None) -> dict[str, Any]:
        """The call as a probe makes it: generators as they were when the user called."""
        return {**self.arguments, **self._generators, **(changes or {})}

    def with_negative(self, prompt: str | tuple[str, ...] | None) -> dict[str, object]:
        """The same call with another negative prompt; None: as if none had been given."""
        kept = {key: value for key, value in self.probing().items() if not _is_negative(key)}
        return kept if prompt is None else {**kept, "negative_prompt": self.texts(prompt)}

    def with_own_negative_as_prompt(self) -> dict[str, object]:
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

    def with_negatives(self, texts: Sequence[str]) -> dict[str, object]:
        """The same call with a prompt, and a negative one, for each of its images."""
        kept = {key: value for key, value in self._for_images(len(texts)).items() if not _is_negative(key)}
        return {**kept, "negative_prompt": list(texts)}

    def with_prompts(self, texts: Sequence[str]) -> dict[str, object]:
        """The same call with another prompt for each of its images, for pipelines that take no negative one."""
        kept = {k: v for k, v in self._for_images(len(texts)).items() if not k.startswith(("prompt", "pooled_prompt"))}
        return {**kept, "prompt": list(texts)}

    def _for_images(self, rows: int) -> dict[str, object]:
        changed = self.probing()
        for key, value in changed.items():
            if key.startswith(("prompt", "pooled_prompt")) and value is not None:
                changed[key] = self._spread(value, rows)
            elif "generator" in key and isinstance(value, (list, tuple)):
                changed[key] = [value[at % len(value)] for at in range(rows)]
            elif key == "latents" and hasattr(value, "repeat") and len(value) != rows:
                changed[key] = value[:1].repeat(rows, *(1 for _ in value.shape[1:]))
        numbers = {key: 1 for key in _NUMBERS if key in self.parameters}
        return {**changed, **numbers}

    def _spread(self, value: Any, rows: int) -> Any:
        """What is said once, or once per prompt, said for each image."""
        if isinstance(value, str):
            return [value] * rows
        count = self.prompt_count or 1
        if rows % count:
            value, count = value[:1], 1
        each = rows // count
        if hasattr(value, "repeat_interleave"):
            return value.repeat_interleave(each, dim=0)
        return [item for item in value for _ in range(each)]

    def with_prompt(self, prompt: str | tuple[str, ...]) -> dict[str, object]:
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


def _inherited(parameter: inspect.Parameter, by_position: bool) -> inspect.Parameter:
    """A parameter of the class that a subclass extends, as the subclass can be given it."""
    if parameter.kind in (_ARGS, _KWARGS):
        return parameter
    default = None if parameter.default is inspect.Parameter.empty else parameter.default
    kind = parameter.kind if by_position else inspect.Parameter.KEYWORD_ONLY
    return parameter.replace(kind=kind, default=default)
