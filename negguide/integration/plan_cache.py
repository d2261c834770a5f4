"""Remember the plan of the last call, for callers that repeat a call with other seeds. Only where that is safe."""

from __future__ import annotations

from typing import Any

import torch

from negguide.integration.call import Call
from negguide.integration.plan import Plan

_WITHOUT_EFFECT = {
    "generator",
    "output_type",
    "return_dict",
    "callback_on_step_end",
    "callback_on_step_end_tensor_inputs",
}


def _plain(value: Any) -> Any:
    """A hashable stand-in of a value made of strings and numbers; raises `TypeError` for anything else."""
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, (list, tuple)):
        return tuple(_plain(item) for item in value)
    if isinstance(value, dict):
        return tuple((key, _plain(item)) for key, item in sorted(value.items()))
    raise TypeError(type(value))


def _weights(part: torch.nn.Module) -> tuple[Any, ...]:
    """Changes whenever weights are loaded, adapters are added, or their scales are set."""
    versions = tuple((id(p), p._version) for p in part.parameters())
    adapters = []
    for child in part.modules():
        scaling = getattr(child, "scaling", None)
        if isinstance(scaling, dict):
            state = (getattr(child, n, None) for n in ("active_adapters", "merged_adapters", "disable_adapters"))
            adapters.append(repr((sorted(scaling.items()), *state)))
    return versions, tuple(adapters)


def plan_key(pipe: Any, call: Call) -> Any:
    """What a plan depends on, or None where that cannot be told (images or tensors among the arguments)."""
    try:
        arguments = _plain({k: v for k, v in call.complete.items() if k not in _WITHOUT_EFFECT})
        settings = _plain(dict(pipe.scheduler.config))
        parts = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
        texts = [_weights(part) for part in parts if type(part).__module__.startswith("transformers")]
    except (TypeError, RuntimeError):
        return None
    here = (str(pipe._execution_device), str(pipe.dtype), str(dict(pipe.config)))
    return arguments, id(pipe.scheduler), settings, here, tuple(map(id, parts)), tuple(texts)


class PlanCache:
    """Holds one plan: that of the last call that had a key."""

    def __init__(self) -> None:
        self._key: Any = None
        self._plan: Plan | None = None

    def get(self, key: Any) -> Plan | None:
        """The plan of that key, if it is the one held."""
        return self._plan if key is not None and key == self._key else None

    def put(self, key: Any, plan: Plan) -> None:
        """Hold this plan instead."""
        self._key, self._plan = key, None if key is None else plan
