"""Pictures, LoRA, ControlNet and schedulers of a comparison: as the pipeline called by hand, and made again by the recipe."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from standin import standin_folder

from negguide.cli import main
from negguide.compare import Results

STEPS = 4


def save_picture(file: Path, seed: int, mode: str = "RGB") -> Path:
    pixels = np.random.RandomState(seed).randint(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(file)
    return file


def run(out: Path, *more: str) -> Results:
    words = ["compare", "a pet", "-n", "cat", "-m", "plain,perp_neg", "--seeds", "3", "--model", standin_folder()]
    assert main([*words, "--steps", str(STEPS), "--guidance", "4", "--out", str(out), *more]) == 0
    return Results.load(out)


def made(out: Path, row: int = 0) -> np.ndarray:
    picture = Results.load(out).comparisons[0].rows[row].pictures[0]
    return np.asarray(Image.open(out / picture.file))


def again(results: Results) -> np.ndarray:
    names: dict[str, Any] = {}
    exec(results.python, names)
    return np.asarray(names["images"][0])


def by_hand(kind: str, **call: Any) -> np.ndarray:
    pipe = getattr(diffusers, kind).from_pretrained(standin_folder())
    pipe.set_progress_bar_config(disable=True)
    output = pipe(
        "a pet",
        num_inference_steps=STEPS,
        guidance_scale=4.0,
        generator=[torch.Generator().manual_seed(3)],
        **call,
    )
    return np.asarray(output.images[0])


def test_image_to_image(tmp_path: Path) -> None:
    photo = save_picture(tmp_path / "photo.png", 0)
    results = run(tmp_path / "out", "--image", str(photo), "--strength", "0.5")
    expected = by_hand("StableDiffusionImg2ImgPipeline", image=Image.open(photo), strength=0.5)
    assert np.array_equal(made(tmp_path / "out"), expected)
    assert np.array_equal(again(results), made(tmp_path / "out", 1)) and not np.array_equal(again(results), expected)
    words = shlex.split(results.command)
    assert words[words.index("--image") + 1] == str(photo) and words[words.index("--strength") + 1] == "0.5"


def test_inpainting(tmp_path: Path) -> None:
    photo, mask = save_picture(tmp_path / "photo.png", 0), tmp_path / "mask.png"
    Image.new("L", (64, 64)).save(mask)
    results = run(tmp_path / "out", "--image", str(photo), "--mask", str(mask))
    assert results.pipeline == "StableDiffusionInpaintPipeline"
    expected = by_hand("StableDiffusionInpaintPipeline", image=Image.open(photo), mask_image=Image.open(mask))
    assert np.array_equal(made(tmp_path / "out"), expected)
    assert np.array_equal(again(results), made(tmp_path / "out", 1))


def test_a_lora_and_a_scheduler(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(standin_folder())
    torch.manual_seed(1)
    pipe.unet.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    state = peft.get_peft_model_state_dict(pipe.unet)
    pipe.save_lora_weights(tmp_path, unet_lora_layers=state)
    (file,) = tmp_path.glob("*.safetensors")
    plain = run(tmp_path / "plain", "--scheduler", "EulerDiscreteScheduler")
    assert plain.settings["scheduler"] == "EulerDiscreteScheduler"
    half = run(tmp_path / "half", "--scheduler", "EulerDiscreteScheduler", "--lora", f"{file}:0.5")
    assert not np.array_equal(made(tmp_path / "half"), made(tmp_path / "plain"))
    assert np.array_equal(again(half), made(tmp_path / "half", 1))


def test_a_controlnet(tmp_path: Path) -> None:
    edges = save_picture(tmp_path / "edges.png", 2)
    base = diffusers.StableDiffusionPipeline.from_pretrained(standin_folder())
    torch.manual_seed(2)
    controlnet = diffusers.ControlNetModel.from_unet(base.unet, conditioning_embedding_out_channels=(8, 16, 32))
    for weights in controlnet.parameters():
        torch.nn.init.normal_(weights, std=0.05)
    controlnet.save_pretrained(tmp_path / "controlnet")
    results = run(tmp_path / "out", "--controlnet", str(tmp_path / "controlnet"), "--control-image", str(edges))
    assert results.pipeline == "StableDiffusionControlNetPipeline"
    parts = {**base.components, "controlnet": controlnet}
    pipe = diffusers.StableDiffusionControlNetPipeline(**parts, requires_safety_checker=False).to(torch.float32)
    pipe.set_progress_bar_config(disable=True)
    generator = [torch.Generator().manual_seed(3)]
    output = pipe("a pet", Image.open(edges), num_inference_steps=STEPS, guidance_scale=4.0, generator=generator)
    assert np.array_equal(made(tmp_path / "out"), np.asarray(output.images[0]))
    assert np.array_equal(again(results), made(tmp_path / "out", 1))


def test_an_ip_adapter(tmp_path: Path) -> None:
    from safetensors.torch import save_file
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(3)
    encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(image_size=32, patch_size=16, projection_dim=8, **sizes))
    encoder.save_pretrained(tmp_path / "image_encoder")
    unet = diffusers.StableDiffusionPipeline.from_pretrained(standin_folder()).unet
    width = unet.config.cross_attention_dim
    weights = {"image_proj.proj.weight": torch.randn(4 * width, 8), "image_proj.proj.bias": torch.randn(4 * width)}
    weights |= {"image_proj.norm.weight": torch.ones(width), "image_proj.norm.bias": torch.zeros(width)}
    for place, name in enumerate(name for name in unet.attn_processors if "attn2" in name):
        hidden = unet.get_submodule(name.removesuffix(".processor")).to_q.out_features
        for kind in ("to_k_ip", "to_v_ip"):
            weights[f"ip_adapter.{2 * place + 1}.{kind}.weight"] = torch.randn(hidden, width)
    save_file(weights, tmp_path / "adapter.safetensors")
    photo = save_picture(tmp_path / "photo.png", 4)
    plain = run(tmp_path / "plain")
    results = run(tmp_path / "out", "--ip-adapter", str(tmp_path / "adapter.safetensors"), "--ip-image", str(photo))
    assert not np.array_equal(made(tmp_path / "out"), made(tmp_path / "plain"))
    assert np.array_equal(again(results), made(tmp_path / "out", 1)) and plain.model == results.model


def test_a_picture_says_what_it_was_made_with_and_the_demo_does_not_make_another(tmp_path: Path) -> None:
    photo = save_picture(tmp_path / "photo.png", 0)
    results = run(tmp_path / "out", "--image", str(photo), "--strength", "0.5")
    file = tmp_path / "out" / results.comparisons[0].rows[1].pictures[0].file
    with Image.open(file) as image:
        settings = json.loads(image.text["settings"])  # type: ignore[attr-defined]
    assert settings["inputs"] == ["--image", str(photo), "--strength", "0.5"]
    pytest.importorskip("gradio")
    from negguide.demo.carried import from_png
    from negguide.demo.options import Options

    with pytest.raises(ValueError, match=r"made with --image .* which the page has not"):
        from_png(file.read_bytes(), Options())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--mask", "{picture}"], "--mask needs --image"),
        (["--strength", "0.5"], "--strength needs --image"),
        (["--image", "{picture}", "--strength", "2"], "strength is 2; more than 0, at most 1"),
        (["--image", "nowhere.png"], "'nowhere.png' of --image cannot be read"),
        (["--control-image", "{picture}"], "--control-image needs --controlnet"),
        (["--ip-image", "{picture}"], "--ip-image needs --ip-adapter"),
        (["--scheduler", "Euler"], "no scheduler 'Euler'; possible here: "),
        (["--lora", "nowhere:x"], "weight 'x' of the LoRA 'nowhere' is not a number"),
        (["--lora", "./nowhere"], "--lora ./nowhere cannot be used with StableDiffusionPipeline"),
    ],
)
def test_what_cannot_be_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    picture = save_picture(tmp_path / "picture.png", 0)
    words = [word.format(picture=picture) for word in more]
    out = tmp_path / "out"
    assert main(["compare", "a pet", "-n", "cat", "--model", standin_folder(), "--out", str(out), *words]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert message in told[-1] and len([line for line in told if line.startswith("negguide:")]) == 1
