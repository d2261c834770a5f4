"""The example workflows of the node pack: each names nodes, inputs and values that exist."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import comfy_standin as comfy
import pytest
import torch

PACK = Path(__file__).parents[1] / "comfyui"
WORKFLOWS = sorted((PACK / "example_workflows").glob("*.json"))
STOCK = {
    "BasicScheduler": ["SIGMAS"],
    "CLIPTextEncode": ["CONDITIONING"],
    "KSampler": ["LATENT"],
    "KSamplerSelect": ["SAMPLER"],
    "PreviewAny": [],
    "PreviewImage": [],
    "RandomNoise": ["NOISE"],
    "SamplerCustomAdvanced": ["LATENT", "LATENT"],
    "SaveImage": [],
    "VAEDecode": ["IMAGE"],
}
"""Outputs of the nodes of ComfyUI that the workflows use, from its documentation."""


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda file: file.stem)
def test_an_example_names_nodes_and_values_that_exist(workflow: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schemas = {cls.GET_SCHEMA().node_id: cls.GET_SCHEMA() for cls in comfy.installed(monkeypatch).NODES}
    graph: dict[str, Any] = json.loads(workflow.read_text())
    outputs = {
        key: [one.io_type for one in schemas[kind].outputs] if (kind := node["class_type"]) in schemas else STOCK[kind]
        for key, node in graph.items()
    }
    assert {"SaveImage", "NegguideToybox"} <= {node["class_type"] for node in graph.values()}
    for node in graph.values():
        if node["class_type"] not in schemas:
            continue
        known = {one.id: one for one in schemas[node["class_type"]].inputs}
        assert set(node["inputs"]) <= set(known)
        assert {name for name, one in known.items() if not one.about.get("optional")} <= set(node["inputs"])
        for name, value in node["inputs"].items():
            about = known[name].about
            if isinstance(value, list):
                assert outputs[value[0]][value[1]] == known[name].io_type
            elif "options" in about:
                assert value in about["options"]
            elif "min" in about:
                assert about["min"] <= value <= about["max"]


def test_there_is_an_example_for_every_kind_of_node() -> None:
    used = {node["class_type"] for file in WORKFLOWS for node in json.loads(file.read_text()).values()}
    assert len(WORKFLOWS) >= 8
    assert {
        "NegguidePerpNeg",
        "NegguideSigned",
        "NegguideNag",
        "NegguideNegToMe",
        "NegguideGuider",
        "NegguideAdaptive",
    } <= used


def test_the_toyboxs_texts_and_pictures_are_those_of_its_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    comfy.installed(monkeypatch)
    from comfyui.toybox import Pictures, Text
    from negguide.toybox.load import load_pipeline

    pipe: Any = load_pipeline("sd")
    text = Text(pipe)
    ((embeds, _),) = text.encode_from_tokens_scheduled(text.tokenize("a pet on grass"))
    expected, _ = pipe.encode_prompt("a pet on grass", "cpu", 1, False)
    assert torch.equal(embeds, expected)
    other: Any = load_pipeline("sd3")
    text = Text(other)
    ((embeds, more),) = text.encode_from_tokens_scheduled(text.tokenize("a pet on grass"))
    expected, _, pooled, _ = other.encode_prompt("a pet on grass", None, None, "cpu", max_sequence_length=0)
    assert torch.equal(embeds, expected) and torch.equal(more["pooled_output"], pooled)
    pictures = Pictures(pipe.vae)
    pixels = pictures.decode(torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(0)))
    assert pixels.shape == (2, 128, 128, 3) and pixels.min() >= 0 and pixels.max() <= 1
    assert pictures.encode(pixels).shape == (2, 8, 16, 16)
