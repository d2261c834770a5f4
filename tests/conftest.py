"""Settings of all tests: one thread, no network, quiet libraries."""

from __future__ import annotations

import os
from importlib.util import find_spec

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the threads that tests start; torch's own setting is per thread
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")

import pytest
import torch

FAST = frozenset(
    {
        "test_cli",
        "test_contract",
        "test_engine",
        "test_engine_oracle",
        "test_engine_refusals",
        "test_families",
        "test_families_more",
        "test_mask",
        "test_maths",
        "test_maths_negtome",
        "test_maths_views",
        "test_methods",
        "test_methods_registry",
        "test_methods_repulsion",
        "test_methods_stabilisers",
        "test_package",
        "test_pipelines",
        "test_prompt",
        "test_taps",
        "test_toybox_portable",
        "test_versions",
    }
)
"""Files whose tests are marked `fast`: what says most about a change, or about other versions of the libraries, in the
shortest time. The contract of every method on every family, the engine against hand loops, the maths, loading of the
bundled models, one comparison from the command line.
"""

HAS_DEMO = find_spec("gradio") is not None
pytest_plugins = ["demo_browser"] if HAS_DEMO else []
"""Its fixtures serve two files."""
collect_ignore_glob = [] if HAS_DEMO else ["test_demo_*.py"]


def pytest_report_header() -> list[str]:
    return [] if HAS_DEMO else ["gradio is not installed: the tests of the demo are left out"]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem in FAST:
            item.add_marker(pytest.mark.fast)
