"""What tests of the batch engine share: a small plan on a stand-in pipeline that is loaded once."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from standin import make_standin, standin_folder

from negguide.batch.engine import Outcome, run
from negguide.batch.plan import ModelPlan, Plan
from negguide.batch.read import load_plan
from negguide.experiment.models import Model

PLAN: dict[str, Any] = {
    "prompts": ["a pet on grass --no cat", "a face --no hat"],
    "methods": ["plain", {"use": "perp_neg", "sweep": {"weight": [1, 2]}}],
    "seeds": "0-2",
    "batch": 2,
    "steps": 2,
}
PICTURES = 2 * 3 * 3


@cache
def model() -> Model:
    return Model("stand-in", make_standin())


def load(plan: ModelPlan, device: str) -> Model:
    return model()


def plan_of(out: Path, **changes: Any) -> Plan:
    return load_plan(None, {**PLAN, "models": standin_folder(), "output": str(out), **changes})


def run_plan(out: Path, **changes: Any) -> Outcome:
    return run(plan_of(out, **changes), load=load)
