"""The node pack in the real ComfyUI, headless on the CPU, through its API. Skipped without one: `make test-comfyui`.

Seen with ComfyUI 0.3.64 (commit a125cd84, October 2025). It is on no package index: clone github.com/Comfy-Org/ComfyUI, and
install its requirements.txt beside negguide. `COMFYUI_PATH` is the clone, `COMFYUI_PYTHON` the Python that has both (if it is
not the one that runs the tests). The clone stays as it is: all files of a run go into a temporary folder.
"""

from __future__ import annotations

import copy
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
COMFYUI = os.environ.get("COMFYUI_PATH", "")
WORKFLOWS = sorted((ROOT / "comfyui" / "example_workflows").glob("*.json"))
pytestmark = pytest.mark.skipif(not COMFYUI, reason="COMFYUI_PATH names no ComfyUI")
START, RUN = 300, 300
"""The most seconds for the start and for a workflow, before the test gives up."""


class Server:
    def __init__(self, port: int, folder: Path) -> None:
        self.address, self.folder = f"http://127.0.0.1:{port}", folder
        self.texts: list[str] = []
        """What the workflow that ran last shows as text."""

    def ask(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.load(reply)

    def pictures(self, graph: dict[str, Any]) -> np.ndarray:
        """Run a workflow; its pictures (B, H, W, 3), 0 to 255."""
        key = self.ask("/prompt", {"prompt": graph})["prompt_id"]
        end = time.monotonic() + RUN
        while not (done := self.ask(f"/history/{key}").get(key)):
            assert time.monotonic() < end, "the workflow does not end"
            time.sleep(0.2)
        assert done["status"]["status_str"] == "success", done["status"]
        self.texts = [text for output in done["outputs"].values() for text in output.get("text", [])]
        images = (one for output in done["outputs"].values() for one in output.get("images", []))
        files = [one for one in images if one["type"] == "output"]
        return np.stack([np.asarray(Image.open(self.folder / "output" / one["filename"])) for one in files]).astype(int)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("comfyui")
    (folder / "custom_nodes").mkdir()
    (folder / "custom_nodes" / "negguide").symlink_to(ROOT / "comfyui", target_is_directory=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    python = os.environ.get("COMFYUI_PYTHON") or sys.executable
    command = [python, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(port), "--disable-api-nodes"]
    command += ["--base-directory", str(folder), "--database-url", "sqlite:///:memory:"]
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            command, cwd=COMFYUI, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            server, end = Server(port, folder), time.monotonic() + START
            while not _is_up(server):
                assert process.poll() is None and time.monotonic() < end, (folder / "log.txt").read_text()[-3000:]
                time.sleep(1)
            yield server
        finally:
            process.terminate()
            process.wait(30)


def _is_up(server: Server) -> bool:
    try:
        return bool(server.ask("/system_stats"))
    except (urllib.error.URLError, ConnectionError):
        return False


def example(name: str) -> dict[str, Any]:
    graph: dict[str, Any] = json.loads((ROOT / "comfyui" / "example_workflows" / f"{name}.json").read_text())
    return graph


def changed(graph: dict[str, Any], kind: str, **inputs: Any) -> dict[str, Any]:
    other = copy.deepcopy(graph)
    for node in other.values():
        if node["class_type"] == kind:
            node["inputs"].update(inputs)
    return other


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda file: file.stem)
def test_every_example_runs_and_differs_from_the_stock_sampler(server: Server, workflow: Path) -> None:
    graph = example(workflow.stem)
    pictures = server.pictures(graph)
    assert pictures.shape == (4, 128, 128, 3) and pictures.std() > 10
    if workflow.stem != "guider_with_negatives":
        stock = server.pictures(changed(graph, "KSampler", model=["1", 0]))
        assert np.abs(pictures - stock).max() > 20


def test_perp_neg_leaves_a_picture_as_it_is_alone(server: Server) -> None:
    graph = example("perp_neg")
    alone = server.pictures(changed(graph, "NegguideToyboxLatents", batch_size=1))
    assert np.abs(server.pictures(graph)[0] - alone[0]).max() <= 1


@pytest.mark.parametrize(
    ("name", "kind", "inputs"),
    [
        ("perp_neg", "NegguideNegative", {"weight": 0.0}),
        ("nag_without_guidance", "NegguideNag", {"scale": 1.0}),
        ("nag_without_guidance", "NegguideNegative", {"start": 0.99}),
        ("negtome_variety", "NegguideNegToMe", {"alpha": 0.0}),
        ("spell_keeps_pictures_apart", "NegguideSpell", {"radius": 0.0}),
        ("nag_on_a_transformer", "NegguideNag", {"scale": 1.0}),
        ("adaptive_distinct_with_timeline", "NegguideAdaptive", {"weight": 0.0}),
    ],
)
def test_neutral_settings_are_the_stock_sampler(server: Server, name: str, kind: str, inputs: dict[str, Any]) -> None:
    graph = example(name)
    stock = server.pictures(changed(graph, "KSampler", model=["1", 0]))
    assert (server.pictures(changed(graph, kind, **inputs)) == stock).all()


def test_negtome_leaves_the_first_picture_as_it_is(server: Server) -> None:
    graph = example("negtome_variety")
    stock = server.pictures(changed(graph, "KSampler", model=["1", 0]))
    assert (server.pictures(graph)[0] == stock[0]).all()


def test_the_watcher_makes_the_pictures_differ_and_tells_what_it_saw(server: Server) -> None:
    graph = example("adaptive_distinct_with_timeline")

    def run(graph: dict[str, Any]) -> tuple[float, str]:
        server.pictures(graph)
        scores = next(text for text in server.texts if text.startswith("Vendi: "))
        return float(scores.split()[1]), "\n".join(server.texts)

    stock, _ = run(changed(graph, "KSampler", model=["1", 0]))
    distinct, words = run(graph)
    assert distinct > stock and "sees cat" in words and "away from cat" in words


def test_the_guider_is_the_ksampler_with_perp_neg(server: Server) -> None:
    guider = server.pictures(example("guider_with_negatives"))
    sampler = server.pictures(changed(example("perp_neg"), "KSampler", sampler_name="euler"))
    assert np.abs(guider - sampler).max() <= 1


def answer_of(script: str) -> dict[str, Any]:
    python = os.environ.get("COMFYUI_PYTHON") or sys.executable
    command = [python, str(ROOT / "tests" / script)]
    done = subprocess.run(command, cwd=COMFYUI, capture_output=True, text=True, timeout=RUN, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_the_latents_are_those_of_the_stock_pipelines() -> None:
    differences = answer_of("comfy_door.py")
    assert len(differences) == 9 and max(differences.values()) < 1e-4, differences


def test_inside_attention_of_comfyuis_transformers_pictures_stay_apart_and_neutral_is_stock() -> None:
    report = answer_of("comfy_classes.py")
    assert "use NAG" in report.pop("QwenImage vsf") and len(report) == 8
    for name, measured in report.items():
        assert measured["neutral"] and measured["alone"] < 1e-5 and measured["moves"] > 0.01, (name, measured)
