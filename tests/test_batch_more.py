"""Measures that are asked for, over a whole batch; the CLIP here sees mean colours, so that every number is known."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from negguide.batch import tables
from negguide.batch.measure import Measures, measure
from negguide.batch.more import More
from negguide.batch.report import write_report
from negguide.cli import main
from negguide.experiment.judges import ClipJudge, Verdict
from negguide.metrics import Clip
from negguide.metrics.distances import cmmd, fid, kid
from negguide.toybox.judge import OracleJudge

TEXTS = {"a thing": [1.0, 1.0, 1.0], "a picture of red": [1.0, 0.0, 0.0]}
COLOURS = {
    "ours": [(250, 10, 5), (200, 180, 0), (10, 250, 0), (0, 90, 240)],
    "plain": [(255, 0, 0), (240, 30, 0), (235, 0, 60), (60, 200, 0)],
}
"""Colours by method and seed; the second prompt has them a little darker."""


class _Colours(torch.nn.Module):
    """Features are colours."""

    def __init__(self) -> None:
        super().__init__()
        self.logit_scale = torch.nn.Parameter(torch.tensor(math.log(10.0)))

    def encode_image(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures

    def encode_text(self, texts: torch.Tensor) -> torch.Tensor:
        return texts


def _clip() -> Clip:
    def mean(picture: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.asarray(picture, dtype=np.float32).mean((0, 1)) / 255)

    def tokens(texts: list[str]) -> torch.Tensor:
        return torch.tensor([TEXTS.get(text, [1.0, 1.0, 1.0]) for text in texts])

    return Clip("colours", _Colours(), mean, tokens)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for method, colours in COLOURS.items():
        for prompt, share in (("one", 1.0), ("two", 0.8)):
            for seed, colour in enumerate(colours):
                file = tmp_path / "all" / method / prompt / f"{seed}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (4, 4), tuple(int(value * share) for value in colour)).save(file)
                file.with_suffix(".txt").write_text(f"a thing {prompt} --no red")
    return tmp_path / "all"


def _features(method: str, share: float = 1.0) -> list[list[float]]:
    rows = [[int(value * share) / 255 for value in colour] for colour in COLOURS[method]]
    return [[value / math.sqrt(sum(v * v for v in row)) for value in row] for row in rows]


def _measure(folder: Path, *judges: Any, **more: Any) -> Measures:
    return measure(folder, judges=[*judges, ClipJudge(_clip())], more=More(**more))


def test_novelty_is_against_baseline_pictures_of_other_seeds(folder: Path) -> None:
    measures = _measure(folder)
    assert measures.baseline == "plain"
    for method in COLOURS:
        found = []
        for share in (1.0, 0.8):
            mine, base = _features(method, share), _features("plain", share)
            for seed, row in enumerate(mine):
                cosines = [
                    sum(a * b for a, b in zip(row, other, strict=True)) for s, other in enumerate(base) if s != seed
                ]
                found.append(1 - max(cosines))
        assert measures.means[method]["novelty"].mean == pytest.approx(sum(found) / 8, abs=1e-5)
    assert measures.differences["ours"]["novelty"].mean > 0
    rows = np.array(_features("ours") + _features("ours", 0.8))
    assert measures.means["ours"]["variance"].mean == pytest.approx(rows.var(0, ddof=1).sum(), abs=1e-5)
    assert measures.means["ours"]["variance"].low is None and measures.means["ours"]["variance"].cases == 8


def test_sets_are_held_against_a_folder(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchmetrics")
    pytest.importorskip("torch_fidelity")
    other = tmp_path / "other"
    other.mkdir()
    for place, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255)]):
        Image.new("RGB", (4, 4), colour).save(other / f"{place}.png")
    measures = _measure(folder, against=other)
    ours = torch.tensor(_features("ours") + _features("ours", 0.8))
    theirs = torch.eye(3)
    means = measures.means["ours"]
    assert means["fid_clip"].mean == pytest.approx(fid(ours, theirs), abs=1e-4)
    assert means["kid_clip"].mean == pytest.approx(kid(ours, theirs)[0], abs=1e-4)
    assert means["cmmd"].mean == pytest.approx(cmmd(ours, theirs), abs=1e-3)
    assert means["novelty_against"].mean == pytest.approx(1 - float(ours.max(1).values.mean()), abs=1e-5)
    assert "fid" not in means and any("FID with Inception needs" in line for line in measures.absent)
    titles = [column.title for column in tables.columns(measures)]
    assert {"FID (CLIP)", "KID (CLIP)", "CMMD", "novelty (folder)"} <= set(titles)
    assert "FID with Inception needs" in write_report(folder).read_text()


def test_likeness_to_references(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "refs").mkdir()
    Image.new("RGB", (4, 4), (0, 255, 0)).save(tmp_path / "refs" / "green.png")
    measures = _measure(folder, references=tmp_path / "refs")
    greens = [row[1] for share in (1.0, 0.8) for row in _features("ours", share)]
    assert measures.means["ours"]["reference"].mean == pytest.approx(sum(greens) / 8, abs=1e-5)
    with pytest.raises(ValueError, match="no folder"):
        _measure(folder, references=tmp_path / "none")


def _truth(folder: Path) -> dict[str, bool]:
    """What a person would say: red is what is much more red than anything else."""
    return {
        f"{method}/{prompt}/{seed}.png": colour[0] > 2 * max(colour[1:])
        for method, colours in COLOURS.items()
        for prompt in ("one", "two")
        for seed, colour in enumerate(colours)
    }


def test_a_truth_calibrates_zero_shot_presence(folder: Path, tmp_path: Path) -> None:
    usual = _measure(folder)
    truth = _truth(folder)
    file = tmp_path / "truth.jsonl"
    file.write_text("\n".join(json.dumps({"file": f, "shows": ["red"] * red}) for f, red in truth.items()) + "\n\n")
    measures = _measure(folder, truth=file)
    found = measures.detections["red"]
    counts = (found.true_positive, found.false_positive, found.false_negative, found.true_negative)
    assert sum(counts) == 16 and found.true_positive + found.false_negative == sum(truth.values()) == 8
    assert Measures.load(folder) == measures
    for method in COLOURS:  # every red is redder than every other, so that calibrated presence is the truth
        share = [red for name, red in truth.items() if name.startswith(method)]
        assert measures.means[method]["presence"].mean == pytest.approx(sum(share) / 8)
        assert usual.means[method]["presence"].mean != pytest.approx(sum(share) / 8, abs=1e-3)
    rows = pyarrow.parquet.read_table(folder / "measures.parquet").to_pylist()
    for name in ("presence of red", "shows_negative"):
        values = {row["picture"]: row["value"] for row in rows if row["measure"] == name}
        assert values == {file: float(red) for file, red in truth.items()}
    (line,) = tables.trust(measures)
    assert f"threshold {found.threshold:.3f}" in line and line.removeprefix("zero-shot ") in tables.markdown(measures)
    assert "How well zero-shot CLIP sees" in write_report(folder).read_text()


def test_what_is_wrong_with_a_truth_is_told(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "truth.jsonl"
    for line, message in (
        ("no json", 'line 1: an object like {"file"'),
        ('{"file": "ours/one/0.png"}', "line 1: an object like"),
        ('{"file": "ours/one/9.png", "shows": []}', "no measured picture is 'ours/one/9.png'"),
        ('{"file": "ours/one/0.png", "shows": ["hat"]}', "'hat' is no negative of it; possible"),
    ):
        file.write_text(line)
        with pytest.raises(ValueError) as told:
            _measure(folder, truth=file)
        assert message in str(told.value)
    with pytest.raises(ValueError, match="cannot be read"):
        _measure(folder, truth=tmp_path / "none")
    file.write_text('{"file": "ours/one/0.png", "shows": ["red"]}')
    assert any("a threshold needs" in line for line in _measure(folder, truth=file).absent)


class _Oracle(OracleJudge):
    """Knows, and has the word on presence."""

    name = "oracle"

    def __init__(self) -> None:
        pass

    def judge(self, pictures: Any, task: Any) -> Verdict:
        red = [picture.getpixel((0, 0))[0] > 2 * max(picture.getpixel((0, 0))[1:]) for picture in pictures]
        return Verdict({"presence": sum(red) / len(red)}, None, red, {"presence of red": [float(one) for one in red]})


def test_an_oracle_is_the_truth_that_clip_is_held_against(folder: Path) -> None:
    measures = _measure(folder, _Oracle())
    found = measures.detections["red"]
    assert found.true_positive + found.false_negative == 8
    assert found.true_negative + found.false_positive == 8
    assert measures.means["plain"]["presence"].mean == 0.75  # still the oracle's


def test_measures_that_cannot_be_had_are_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert main(["measure", str(folder), "--with", "dino=nobody/nothing", "--with", "lpips"]) == 0
    printed = capsys.readouterr().out
    assert "not measured: the DINO kernel needs the model nobody/nothing" in printed
    assert "not measured: LPIPS" in printed
    assert main(["measure", str(folder), "--with", "ssim"]) == 2
    assert "unknown measure 'ssim'; possible: dino" in capsys.readouterr().err


def test_a_dino_kernel_stands_beside_the_others(folder: Path, tmp_path: Path) -> None:
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    config = Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
    Dinov2Model(config).save_pretrained(tmp_path / "dino")
    processor = BitImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    processor.save_pretrained(tmp_path / "dino")
    measures = _measure(folder, names=(f"dino={tmp_path / 'dino'}",))
    assert 1 <= measures.means["ours"]["vendi_dino"].mean <= 4 and "mss_dino" in measures.differences["ours"]
    assert "DINO" in measures.judge and measures.absent == []
