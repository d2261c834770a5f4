"""Side models (ControlNet) that read the text themselves and feed the denoiser: asked again for extra conditions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from negguide.pipeline import argument_tree
from negguide.pipeline.plan import Plan
from negguide.pipeline.probe import named_arguments, placed
from negguide.types import Original


class SideModel:
    """Watches a side model during a run. Where the pipeline's guidance is batched; elsewhere all texts share one answer."""

    def __init__(self, module: torch.nn.Module) -> None:
        self._module = module
        self.forget()

    def forget(self) -> None:
        """A new step begins."""
        self._named: dict[str, object] | None = None
        self._answers: dict[int, argument_tree.Path] = {}

    def watch(self, original: Original, *args: object, **kwargs: object) -> Any:
        """Handler of its `__call__`."""
        output = original(*args, **kwargs)
        self._named = named_arguments(self._module, args, kwargs)
        self._asked = original, args
        self._answers = {id(leaf): path for path, leaf in _leaves(_plain(output)).items()}
        self._output = output
        return output

    def overlay(
        self, plan: Plan, named: Mapping[str, object], texts: argument_tree.Overlay
    ) -> dict[argument_tree.Path, object]:
        """What the denoiser arguments `named` (both halves) become where they are this model's answers.

        Empty if the model is not at work, does not read what the condition changes, or what it said was processed on
        the way (guess mode: negatives get no control, like the unconditional).
        """
        if self._named is None or plan.asks != "batch" or plan.silenced:
            return {}
        ours, theirs = _leaves(self._named), _leaves(named)
        used = {path: self._answers[id(leaf)] for path, leaf in theirs.items() if id(leaf) in self._answers}
        shared = {path: value for path, value in texts.items() if path in ours and ours[path] is theirs.get(path)}
        if not used or not shared:
            return {}
        call = argument_tree.overlaid(plan.half(self._named, "uncond") if plan.mode == "batch" else self._named, shared)
        original, args = self._asked
        args, kwargs = placed(self._module, args, call)
        answers = _leaves(_plain(original(*args, **kwargs)))
        return {path: answers[where] for path, where in used.items()}


def _leaves(named: object) -> dict[argument_tree.Path, object]:
    leaves: dict[argument_tree.Path, object] = {}
    argument_tree.rebuild(named, leaves.__setitem__)
    return leaves


def _plain(output: object) -> object:
    return output.to_tuple() if hasattr(output, "to_tuple") else output
