"""Plans of a pipeline's last calls, for callers that repeat a call with other seeds, also through a new attachment.

A key need not be complete: whether a plan still holds is looked at in the run itself (`stale`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any
from weakref import WeakKeyDictionary

from negguide.pipeline.call import Call
from negguide.pipeline.families import GUIDERS, guider_settings
from negguide.pipeline.intercept import base_class
from negguide.pipeline.plan import Plan
from negguide.types import PipelineLike

_MOST_PLANS = 4
"""Plans that are remembered for one pipeline: their texts' embeddings stay in its memory."""

_WITHOUT_EFFECT = {
    "generator",
    "output_type",
    "return_dict",
    "callback",
    "callback_steps",
    "callback_on_step_end",
    "callback_on_step_end_tensor_inputs",
}


def _plain(value: object) -> object:
    """A hashable stand-in: strings and numbers as they are, pictures and tensors by their form; else `TypeError`."""
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, (list, tuple)):
        return tuple(_plain(item) for item in value)
    if isinstance(value, dict):
        return tuple((key, _plain(item)) for key, item in sorted(value.items()))
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return type(value).__name__, tuple(value.shape), str(value.dtype)
    if hasattr(value, "size") and hasattr(value, "mode"):
        return type(value).__name__, value.size, value.mode
    raise TypeError(type(value))


def plan_key(pipe: PipelineLike, call: Call, *more: object) -> Any:
    """What a plan depends on, or None where that cannot be told; `more`: what it depends on besides the call."""
    try:
        arguments = _plain({k: v for k, v in call.complete.items() if k not in _WITHOUT_EFFECT})
        scheduler = (base_class(pipe.scheduler).__name__, _plain(dict(pipe.scheduler.config)))
        state = _plain({k: v for k, v in vars(pipe).items() if not k.startswith("_") and _is_plain(v)})
        guiders = [guider_settings(vars(pipe).get(part)) for part in GUIDERS]
        return arguments, scheduler, state, tuple(guiders), _plain(dict(pipe.config)), more
    except TypeError:
        return None


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))


class PlanCache:
    """The last plans of each pipeline that is alive. Who takes one has it alone until it is given back."""

    def __init__(self) -> None:
        self._plans: WeakKeyDictionary[object, OrderedDict[object, Plan]] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def take(self, pipe: object, key: object) -> Plan | None:
        """The plan of that key, if there is one that no other run uses now."""
        if key is None:
            return None
        with self._lock:
            return self._plans.get(pipe, OrderedDict()).pop(key, None)

    def give(self, pipe: object, key: object, plan: Plan) -> None:
        """Keep a plan for later calls, and let go of the oldest."""
        if key is None:
            return
        plan.rest()
        with self._lock:
            plans = self._plans.setdefault(pipe, OrderedDict())
            plans[key] = plan
            plans.move_to_end(key)
            while len(plans) > _MOST_PLANS:
                plans.popitem(last=False)

    def of(self, pipe: object) -> list[Plan]:
        """The plans that are kept for a pipeline, the newest last."""
        with self._lock:
            return list(self._plans.get(pipe, {}).values())


PLANS = PlanCache()
