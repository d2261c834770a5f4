"""What callbacks make of the pipeline's own guidance while it runs: switched off, or with another scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from negguide.pipeline.checks import halves_of_answers
from negguide.pipeline.guidance import measured_scale, read_mode
from negguide.pipeline.probe import guidance_settings, probe

if TYPE_CHECKING:
    from negguide.pipeline.plan import Plan


class LiveGuidance:
    """Follows the attributes of a running pipeline that hold its guidance (`_guidance_scale` and the like).

    What a changed one does is not guessed: some pipelines read it at each step, others once, before the first. A probe
    makes the change between its first two steps and looks at the second.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._known: dict[tuple[object, ...], float | None] = {}

    def scale(self) -> float | None:
        """The scale w that the pipeline guides with at this step; None where it does not guide any more."""
        plan = self._plan
        now = guidance_settings(plan.pipe)
        if now == plan.settings:
            return plan.scale
        key = tuple(sorted(now.items()))
        if key not in self._known:
            self._known[key] = self._measured(now)
        return self._known[key]

    def _measured(self, now: dict[str, object]) -> float | None:
        plan = self._plan
        quiet = {key: None for key in plan.call.arguments if key.startswith("callback_on_step")}
        probed = probe(plan.pipe, plan.denoisers, {**plan.call.probing(plan.arguments), **quiet}, then=now)
        if probed.guided is None:
            return plan.scale
        if probed.asked[0].denoiser != plan.reference.denoiser and len(probed.asked) == 2:
            return plan.scale  # the second of two denoisers, which has a scale of its own
        if read_mode(probed, type(plan.pipe).__name__) == "single":
            return None
        return measured_scale(plan.layout.core(probed.guided), *halves_of_answers(plan, probed))[0]
