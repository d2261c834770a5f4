"""Weights away from weights: plain files, folders with shards, adapters, and what does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from negguide import weights
from negguide.cli import main


def tensors(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = {name: torch.randn(3, 4, generator=generator).to(dtype) for name in ("a.weight", "b.weight")}
    return {**made, "position_ids": torch.arange(5)}


def saved(path: Path, values: dict[str, torch.Tensor], **metadata: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(values, path, metadata or None)
    return path


@pytest.mark.parametrize("away", [0.0, 0.5, 2.0, -1.0])
def test_a_file_away_from_another(tmp_path: Path, away: float, capsys: pytest.CaptureFixture[str]) -> None:
    base, tuned = tensors(0), tensors(1)
    saved(tmp_path / "base.safetensors", base, format="pt")
    saved(tmp_path / "tuned.safetensors", tuned)
    out = tmp_path / "new" / "out.safetensors"
    assert main(["merge", *(str(tmp_path / f"{name}.safetensors") for name in ("base", "tuned")),
                 f"--away={away}", "-o", str(out)]) == 0  # fmt: skip
    assert capsys.readouterr().out.strip() == str(out)
    found = load_file(out)
    for name in ("a.weight", "b.weight"):
        wanted = (1 + away) * base[name].double().numpy() - away * tuned[name].double().numpy()
        np.testing.assert_allclose(found[name].numpy(), wanted, rtol=0, atol=1e-5)
    assert torch.equal(found["position_ids"], base["position_ids"])
    with safe_open(out, "pt") as opened:
        assert opened.metadata() == {"format": "pt"}
    assert [path.name for path in out.parent.iterdir()] == ["out.safetensors"], "no draft stays"


def test_half_precision_is_computed_in_full_and_stored_in_half(tmp_path: Path) -> None:
    base, tuned = tensors(0, torch.bfloat16), tensors(1)
    out = tmp_path / "out.safetensors"
    weights.merge(saved(tmp_path / "a.safetensors", base), saved(tmp_path / "b.safetensors", tuned), 0.3, out)
    found = load_file(out)["a.weight"]
    wanted = 1.3 * base["a.weight"].double() - 0.3 * tuned["a.weight"].double()
    assert found.dtype == torch.bfloat16 and torch.equal(found, wanted.to(torch.bfloat16))


def test_a_folder_whose_shards_are_cut_differently(tmp_path: Path) -> None:
    base, tuned = tensors(0), tensors(1)
    saved(tmp_path / "base" / "unet" / "one.safetensors", {"a.weight": base["a.weight"]})
    saved(tmp_path / "base" / "unet" / "two.safetensors", {"b.weight": base["b.weight"]})
    saved(tmp_path / "base" / "vae" / "x.safetensors", {"a.weight": base["a.weight"] + 1})
    (tmp_path / "base" / "model_index.json").write_text(json.dumps({"of": "base"}))
    saved(tmp_path / "tuned" / "unet" / "all.safetensors", {name: tuned[name] for name in ("a.weight", "b.weight")})
    saved(tmp_path / "tuned" / "vae" / "x.safetensors", {"a.weight": base["a.weight"] + 1})
    (tmp_path / "tuned" / "model_index.json").write_text(json.dumps({"of": "tuned"}))
    files = weights.merge(tmp_path / "base", tmp_path / "tuned", 0.5, tmp_path / "out")
    assert sorted(str(file.relative_to(tmp_path / "out")) for file in files) == [
        "unet/one.safetensors",
        "unet/two.safetensors",
        "vae/x.safetensors",
    ]
    two = load_file(tmp_path / "out" / "unet" / "two.safetensors")["b.weight"]
    torch.testing.assert_close(two, base["b.weight"] + (base["b.weight"] - tuned["b.weight"]) / 2)
    assert torch.equal(load_file(tmp_path / "out" / "vae" / "x.safetensors")["a.weight"], base["a.weight"] + 1)
    assert json.loads((tmp_path / "out" / "model_index.json").read_text()) == {"of": "base"}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(("down", "up"), [("lora_A.weight", "lora_B.weight"), ("lora_down.weight", "lora_up.weight")])
def test_an_adapter_is_turned_round(tmp_path: Path, down: str, up: str) -> None:
    factors = {f"q.{down}": torch.randn(2, 6), f"q.{up}": torch.randn(5, 2), "q.alpha": torch.tensor(4.0)}
    saved(tmp_path / "lora" / "adapter_model.safetensors", factors, peft="yes")
    (tmp_path / "lora" / "adapter_config.json").write_text("{}")
    base = saved(tmp_path / "base.safetensors", {"q.weight": torch.randn(5, 6)})
    (file,) = weights.merge(base, tmp_path / "lora", 0.5, tmp_path / "out")
    found = load_file(file)
    assert (tmp_path / "out" / "adapter_config.json").is_file() and found["q.alpha"] == 4.0
    torch.testing.assert_close(found[f"q.{up}"] @ found[f"q.{down}"], -0.5 * factors[f"q.{up}"] @ factors[f"q.{down}"])


def test_a_model_is_no_adapter(tmp_path: Path) -> None:
    """Names like ".diffusion_model" are not those of an adapter's ".diff"."""
    name = "model.diffusion_model.in.weight"
    one, two = (saved(tmp_path / f"{k}.safetensors", {name: torch.full((2, 2), float(k))}) for k in (1, 2))
    assert not weights.is_adapter(one)
    assert weights.is_adapter(
        saved(tmp_path / "diff.safetensors", {"x.diff": torch.zeros(2), "x.diff_b": torch.zeros(2)})
    )
    (file,) = weights.merge(one, two, 0.5, tmp_path / "out.safetensors")
    assert load_file(file)[name].tolist() == [[0.5, 0.5]] * 2


def test_the_merged_toybox_is_a_pipeline(tmp_path: Path) -> None:
    """A real pipeline folder, away from itself: the same weights, and it loads."""
    from diffusers import UNet2DConditionModel

    from negguide.toybox.load import pipeline_dir

    folder = pipeline_dir("sd") / "unet"
    weights.merge(folder, folder, 0.7, tmp_path / "unet")
    merged = UNet2DConditionModel.from_pretrained(tmp_path / "unet").state_dict()
    stock = UNet2DConditionModel.from_pretrained(folder).state_dict()
    assert all(torch.equal(value, merged[name]) for name, value in stock.items())


def test_what_does_not_fit_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = saved(tmp_path / "one.safetensors", tensors(0))
    fewer = saved(tmp_path / "fewer.safetensors", {"a.weight": torch.zeros(3, 4)})
    other = saved(tmp_path / "other.safetensors", {**tensors(0), "b.weight": torch.zeros(2, 2)})
    lora = saved(
        tmp_path / "lora.safetensors", {"q.lora_A.weight": torch.zeros(1, 2), "q.lora_B.weight": torch.zeros(2, 1)}
    )
    dora = saved(tmp_path / "dora.safetensors", {**load_file(lora), "q.lora_magnitude_vector": torch.zeros(2)})
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not a file of weights")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "model.bin").write_bytes(b"")
    out = tmp_path / "out.safetensors"
    for base, tuned, says in (
        (one, fewer, r"what was tuned lacks 2 weight\(s\) of the other, e.g. b.weight"),
        (fewer, one, "the base lacks 2"),
        (one, other, r"'b.weight' has the shape \[3, 4\] in the base, \[2, 2\] in what was tuned"),
        (lora, lora, r"set_adapters\(\[\"base\", \"tuned\"\], \[1.5, -0.5\]\)"),
        (one, dora, "belongs to DoRA"),
        (one, broken, "no readable safetensors"),
        (one, tmp_path / "bin", "safe_serialization=True"),
        (one, tmp_path / "nowhere", "there is no file or folder"),
    ):
        with pytest.raises(ValueError, match=says):
            weights.merge(base, tuned, 0.5, out)
        assert not out.exists()
    with pytest.raises(ValueError, match="any finite number"):
        weights.merge(one, one, float("nan"), out)
    assert main(["merge", str(one), str(one), "-o", str(one)]) == 2
    assert "exists already" in capsys.readouterr().err
