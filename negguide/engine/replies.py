"""What the pipeline gets for its denoiser calls of a step: its own predictions, or the guided one in place of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from negguide.engine.attention_hooks import COND
from negguide.engine.evaluate import DenoiserCall, Evaluator
from negguide.engine.finite import FiniteGuard
from negguide.pipeline.families import unsupported
from negguide.pipeline.layout import prediction_of, with_prediction
from negguide.pipeline.plan import OWN_KEY, Plan


@dataclass
class _Second:
    """What waits for the unconditional call of sequential guidance."""

    output: object
    touched: bool


class Replies:
    """Those of one step; `begin_step` makes ready for the next."""

    def __init__(self, plan: Plan, evaluator: Evaluator, guard: FiniteGuard) -> None:
        self._plan, self._evaluator, self._guard = plan, evaluator, guard
        self.begin_step()

    def begin_step(self) -> None:
        """Nothing is handed back yet."""
        self._second: _Second | None = None
        self._handed: Tensor | None = None

    @property
    def waits_for_second(self) -> bool:
        """Whether the unconditional call, if it comes, is answered already."""
        return self._second is not None

    def first(
        self, predictions: Mapping[int, Tensor], target: Tensor | None, heard: bool, names: Sequence[str], index: int
    ) -> Any:
        """What the pipeline gets: its own predictions where nothing was touched, else T in every half.

        `names`: who made T, to be blamed at step `index` if it is not finite.
        """
        plan, output = self._plan, self._evaluator.output
        cond, own = predictions[COND], predictions.get(OWN_KEY)
        if target is not None:
            self._handed = target
            cond = own = plan.layout.placed(cond, target)
            self._guard.check(cond, tuple(predictions.values()), ", ".join(names) or "guidance", index)
        elif plan.mode == "batch" and len(predictions) == 2 and prediction_of(output).shape[0] == 2 * plan.rows:
            return output
        if plan.mode == "batch":
            assert own is not None
            return with_prediction(output, torch.cat([cond, own] if plan.family.cond_first else [own, cond]))
        if plan.mode == "sequential":
            assert own is not None
            self._second = _Second(with_prediction(output, own), target is not None or heard)
        return with_prediction(output, cond)

    def second(self, denoiser_call: DenoiserCall) -> Any:
        """The unconditional call: already answered, unless the pipeline now asks something else than foreseen."""
        assert self._second is not None
        own = self._plan.overlays[OWN_KEY]
        changed = self._plan.refresh_own(denoiser_call.named) if own else False
        return self._evaluator.unchanged(denoiser_call) if changed and not self._second.touched else self._second.output

    def check_kept(self, arrived: object) -> None:
        """Refuse pipelines whose guidance makes something else of the prediction that was handed back in all its places."""
        if self._handed is None or self._plan.mode == "single":
            return
        wanted = self._plan.sign * self._handed.float()
        if not isinstance(arrived, Tensor) or arrived.shape != wanted.shape:
            return
        good = (arrived.float() - wanted).abs().amax() <= 2e-2 * wanted.abs().amax() + 1e-6
        why = (
            "it changes the guided prediction before its scheduler gets it, so that what methods make would not arrive"
        )
        self._guard.require(good, unsupported(type(self._plan.pipe).__name__, why))
