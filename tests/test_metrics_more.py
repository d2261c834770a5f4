"""Distances, novelty, kernels and detection against closed forms and loops; networks have random weights, nothing is fetched."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from PIL import Image

from negguide.metrics import mss
from negguide.metrics.absent import Absent
from negguide.metrics.detection import Detection, calibrate, detect
from negguide.metrics.dino import Dino
from negguide.metrics.distances import cmmd, fid, inception, kid
from negguide.metrics.novelty import nearest, novelty, total_variance
from negguide.metrics.perceptual import DreamSim, Lpips


def _rows(count: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed)) + shift


def test_fid_is_the_distance_of_two_normal_distributions() -> None:
    pytest.importorskip("torchmetrics")
    a, b = _rows(50, 1).double().numpy(), _rows(60, 2, 0.5).double().numpy()
    means = float(((a.mean(0) - b.mean(0)) ** 2).sum())
    one, other = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    expected = means + np.trace(one + other - 2 * scipy.linalg.sqrtm(one @ other).real)
    assert fid(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(expected, rel=1e-4)
    assert fid(_rows(50, 1), _rows(50, 1)) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="at least 2 rows"):
        fid(_rows(1, 1), _rows(5, 1))


def test_kid_is_the_unbiased_distance_under_a_cubic_kernel() -> None:
    pytest.importorskip("torchmetrics")
    a, b = _rows(12, 1), _rows(12, 2, 1.0)

    def kernel(x: list[float], y: list[float]) -> float:
        return (sum(p * q for p, q in zip(x, y, strict=True)) / 4 + 1) ** 3

    def within(rows: list[list[float]]) -> float:
        values = [kernel(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j]
        return sum(values) / len(values)

    across = [kernel(x, y) for x in a.tolist() for y in b.tolist()]
    expected = within(a.tolist()) + within(b.tolist()) - 2 * sum(across) / len(across)
    mean, spread = kid(a, b)  # every subset is the whole
    assert mean == pytest.approx(expected, rel=1e-4) and spread == pytest.approx(0, abs=1e-4)
    state = torch.random.get_rng_state()
    assert kid(_rows(30, 1), b) == kid(_rows(30, 1), b)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_cmmd_is_a_thousand_times_the_biased_distance_under_a_wide_kernel() -> None:
    pytest.importorskip("torch_fidelity")
    a, b = _rows(5, 1), _rows(7, 2, 1.0)

    def unit(rows: torch.Tensor) -> list[list[float]]:
        return [[value / math.sqrt(sum(v * v for v in row)) for value in row] for row in rows.double().tolist()]

    def mean(xs: list[list[float]], ys: list[list[float]]) -> float:
        values = [math.exp(-sum((p - q) ** 2 for p, q in zip(x, y, strict=True)) / 200) for x in xs for y in ys]
        return sum(values) / len(values)

    one, other = unit(a), unit(b[:5])
    expected = 1000 * (mean(one, one) + mean(other, other) - 2 * mean(one, other))
    assert cmmd(a, b) == pytest.approx(expected, rel=1e-6) and expected > 0.1
    assert cmmd(a, a) == pytest.approx(0, abs=1e-9)


def test_novelty_is_how_far_the_nearest_other_is() -> None:
    here = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    there = torch.tensor([[3.0, 0.0], [1.0, 1.0]])
    assert nearest(here, there).tolist() == pytest.approx([1, math.sqrt(0.5)])
    assert novelty(here, there) == pytest.approx((0 + 1 - math.sqrt(0.5)) / 2)
    assert novelty(here, here) == pytest.approx(0)
    with pytest.raises(ValueError, match="M at least 1"):
        novelty(here, there[:0])


def test_total_variance_is_the_sum_of_variances_of_directions() -> None:
    features = _rows(6, 3)
    columns = list(zip(*(row / row.norm() for row in features.double()), strict=True))
    expected = 0.0
    for column in columns:
        values = [float(value) for value in column]
        middle = sum(values) / 6
        expected += sum((value - middle) ** 2 for value in values) / 5
    assert total_variance(features) == pytest.approx(expected)
    assert total_variance(features) == pytest.approx(1 - mss(features))
    assert total_variance(torch.ones(3, 2)) == pytest.approx(0)


def test_a_threshold_separates_what_can_be_separated() -> None:
    assert calibrate([0.1, 0.2, 0.6, 0.9], [False, False, True, True]) == pytest.approx(0.4)
    assert calibrate([0.9, 0.8, 0.1], [True, True, False]) == pytest.approx(0.45)
    rng = np.random.default_rng(0)
    scores, truth = rng.random(80), rng.random(80) < 0.3
    best = max((np.mean(scores[truth] > cut) + np.mean(scores[~truth] <= cut)) / 2 for cut in [-1.0, *scores.tolist()])
    cut = calibrate(scores.tolist(), truth.tolist())
    assert (np.mean(scores[truth] > cut) + np.mean(scores[~truth] <= cut)) / 2 == pytest.approx(best)
    with pytest.raises(ValueError, match="pictures that do not"):
        calibrate([0.1, 0.2], [True, True])


def test_a_detector_is_judged_by_thresholds_of_other_groups() -> None:
    scores = [0.1, 0.9, 0.2, 0.8] * 3
    truth = [False, True, False, True] * 3
    perfect = detect(scores, truth, [place // 2 for place in range(12)])
    assert (perfect.precision, perfect.recall, perfect.specificity) == (1, 1, 1)
    assert perfect.true_positive == perfect.true_negative == 6
    # By its own threshold each half would look perfect; the second half's thing lies below that of the first.
    honest = detect([0.1, 0.9, 0.3, 0.2], [False, True, True, False], ["a", "a", "b", "b"])
    assert (honest.true_positive, honest.false_positive, honest.false_negative, honest.true_negative) == (1, 0, 1, 2)
    assert Detection(0.5, 3, 1, 2, 4).precision == 0.75 and Detection(0.5, 3, 1, 2, 4).recall == 0.6
    assert Detection(0.5, 3, 1, 2, 4).specificity == 0.8 and Detection(0.5, 0, 0, 1, 1).precision is None
    with pytest.raises(ValueError, match="a threshold needs"):
        detect([0.1, 0.9], [False, True], ["same", "same"])


def _pictures(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (48, 40, 3), dtype=np.uint8)) for _ in range(count)]


def test_lpips_is_the_mean_over_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = pytest.importorskip("torchvision.models")
    functional = pytest.importorskip("torchmetrics.functional.image.lpips")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(Absent, match=r"needs the weights https://.*squeezenet1_1.*fetch them as"):
        Lpips("squeeze")
    torch.manual_seed(0)
    url = models.SqueezeNet1_1_Weights.IMAGENET1K_V1.url
    file = tmp_path / "hub" / "checkpoints" / url.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    torch.save(models.squeezenet1_1().state_dict(), file)
    lpips = Lpips("squeeze")
    pictures = _pictures(3)
    small = [torch.from_numpy(np.array(p.resize((64, 64)))).permute(2, 0, 1)[None] / 255 for p in pictures]
    net = functional._NoTrainLpips(net="squeeze").eval()
    found = [float(net(small[i] * 2 - 1, small[j] * 2 - 1).detach()) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert lpips(pictures) == pytest.approx(sum(found) / 3, rel=1e-4) and min(found) > 0
    assert lpips([pictures[0]] * 2) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="at least 2"):
        lpips(pictures[:1])
    with pytest.raises(ValueError, match="possible: alex, squeeze, vgg"):
        Lpips("resnet")


def test_dino_features_are_those_of_the_model(tmp_path: Path) -> None:
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
    model = Dinov2Model(config).eval()
    model.save_pretrained(tmp_path / "dino")
    size = {"height": 28, "width": 28}
    BitImageProcessor(size={"shortest_edge": 28}, crop_size=size).save_pretrained(tmp_path / "dino")
    pictures = _pictures(18)  # more than one part
    features = Dino(str(tmp_path / "dino"))(pictures)
    processor = BitImageProcessor.from_pretrained(tmp_path / "dino")
    with torch.no_grad():
        last = model(processor(images=pictures[17], return_tensors="pt")["pixel_values"]).last_hidden_state[0, 0]
    assert features.shape == (18, 16) and torch.allclose(features[17], last, atol=1e-5)
    with pytest.raises(Absent, match="hf download nobody/nothing"):
        Dino("nobody/nothing")


def test_dreamsim_is_the_distance_of_its_embeddings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        class Model:
            def embed(self, row: torch.Tensor) -> torch.Tensor:
                return row

        def dreamsim(self, **_: object) -> object:
            return self.Model(), lambda picture: torch.tensor([picture.getpixel((0, 0))]).float()

    monkeypatch.setitem(__import__("sys").modules, "dreamsim", Library())
    with pytest.raises(Absent, match="fetch them once with python -c"):
        DreamSim(tmp_path)
    (tmp_path / "ensemble_lora").mkdir()
    (tmp_path / "ensemble_lora" / "adapter_config.json").write_text("{}")
    red, blue, both = (Image.new("RGB", (2, 2), colour) for colour in ("red", "blue", "magenta"))
    expected = (1 + 2 * (1 - math.sqrt(0.5))) / 3
    assert DreamSim(tmp_path)([red, blue, both]) == pytest.approx(expected, abs=1e-6)


def test_inception_weights_that_are_missing_or_altered_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(Absent, match="needs the weights https"):
        inception()
    file = tmp_path / "hub" / "checkpoints" / library.URL_INCEPTION_V3.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    file.write_bytes(b"something else")
    with pytest.raises(Absent, match="not what was published"):
        inception()
