"""Pictures that NegToMe keeps away from: given ones, masked ones, and those of a bank."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import families
import numpy as np
import pytest
import torch
from listeners import Listener
from negtome_parts import ALWAYS, call, close, hooked, run
from PIL import Image
from test_maths_negtome import by_hand
from torch import Tensor

from negguide.engine import attach, latents
from negguide.methods import Avoid, Bank, NegToMe, Window
from negguide.pipeline.layout import Layout


def with_pictures(
    family: str, latents: Tensor, alpha: float, threshold: float, keep: list[int] | None = None
) -> Tensor:
    """By hand: the reference latents are a second image of a plain batch, at each step at the level of that step."""
    name = family.split(",")[0]
    pipe = families.build(name)
    noise = torch.randn(latents.shape[1:], generator=torch.Generator().manual_seed(0))

    def push(x: Tensor) -> Tensor:
        r = x[-1] if keep is None else x[-1][keep]
        return torch.stack([*(by_hand(image, r, alpha, threshold).float() for image in x[:-1]), x[-1]])

    def level(i: int) -> Tensor:
        schedule = pipe.scheduler
        if name == "sd15":
            abar = schedule.alphas_cumprod[int(schedule.timesteps[i])]
            return abar.sqrt() * latents + (1 - abar).sqrt() * noise
        sigma = float(schedule.sigmas[i])
        return (1 - sigma) * latents + sigma * noise if name != "sdxl" else latents + sigma * noise

    def callback(p: Any, i: int, t: Any, kwargs: dict[str, Tensor]) -> dict[str, Tensor]:
        if i == 1:
            return {}
        changed = kwargs["latents"].clone()
        changed[-1:] = level(i + 1)
        return {"latents": changed}

    # The run that tells the first latents also leaves the scheduler set up for two steps.
    begin = torch.cat([first_latents(pipe, call(name, images=1, steps=2)), level(0)])
    begin = begin / getattr(pipe.scheduler, "init_noise_sigma", 1.0)
    with hooked(name, push, 2):
        return pipe(**call(name, images=2, steps=2), latents=begin, callback_on_step_end=callback).images[:1]


def first_latents(pipe: Any, arguments: dict[str, Any]) -> Tensor:
    """What the scheduler holds before the first step."""
    held: list[Tensor] = []
    original = pipe.scheduler.step

    def step(output: Tensor, t: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        held.append(sample.clone())
        return original(output, t, sample, *args, **kwargs)

    pipe.scheduler.step = step
    try:
        pipe(**arguments)
    finally:
        del pipe.scheduler.step
    return held[0]


@pytest.mark.parametrize("family", ["sd15", "sdxl", "flux"])
def test_a_picture_to_avoid_equals_a_batch_by_hand(family: str) -> None:
    shape = {"sd15": (1, 4, 16, 16), "sdxl": (1, 4, 16, 16), "flux": (1, 64, 16)}[family]
    # A seed at which no two matches are so equal that the last digit of a product decides between them (5 has such a pair).
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(7))
    expected = with_pictures(family, latents, 0.9, 0.5)
    with attach(families.build(family), NegToMe(latents[0], 0.9, 0.5, ALWAYS)) as attached:
        found = run(family, images=1, steps=2)
    assert found.shape[0] == 1, "the picture takes no place in the result"
    assert close(found, expected)
    assert not close(found, run(family, images=1, steps=2))
    assert attached.passes == 2 * 2 * 2


@pytest.mark.parametrize("family", ["sd15", "flux"])
def test_pictures_are_for_every_prompt_and_image(family: str) -> None:
    method = NegToMe([families.picture(), families.picture(48)], 0.9, 0.5, ALWAYS)
    prompts = ["a pet on grass", "one red apples"]
    with attach(families.build(family), method) as attached:
        both = run(family, prompt=prompts, steps=2, **({"negative_prompt": ["", ""]} if family == "flux" else {}))
        assert attached.passes == 2 * 2 * (1 + 2 * 2 / 4)
        for i, prompt in enumerate(prompts):
            alone = run(family, prompt=prompt, steps=2, images=1, seed=2 * i)
            assert torch.allclose(both[2 * i : 2 * i + 1], alone, atol=5e-4 * float(alone.abs().max()))


def test_the_mask_of_a_picture_limits_what_is_avoided() -> None:
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(5))
    right = np.zeros((16, 16), dtype=np.uint8)
    right[:, 8:] = 255
    found = {}
    for key, mask in {"whole": None, "right": right}.items():
        with attach(families.build("sd15"), NegToMe(Avoid(latents[0], mask), 0.9, 0.5, ALWAYS)):
            found[key] = run("sd15", images=1, steps=2)
    # The up blocks of the tiny UNet have 8 x 8 tokens.
    keep = [row * 8 + column for row in range(8) for column in range(4, 8)]
    assert close(found["right"], with_pictures("sd15", latents, 0.9, 0.5, keep))
    assert not close(found["right"], found["whole"])


def test_a_thin_mask_keeps_at_least_a_token() -> None:
    from negguide.methods.avoid import kept_tokens

    thin = np.zeros((64, 64), dtype=np.uint8)
    thin[:, 9] = 255
    kept = kept_tokens((Avoid("a.png"), Avoid("b.png", thin)), (8, 8))
    assert kept.tolist() == [*range(64), *(64 + 8 * row + 1 for row in range(8))]
    with pytest.raises(ValueError, match="black"):
        kept_tokens((Avoid("a.png", thin * 0),), (8, 8))


@pytest.mark.parametrize("family", ["sd15", "sdxl", "sd3", "flux", "pixart", "qwen", "sana", "zimage"])
def test_encoding_and_decoding_are_the_pipelines_own(family: str) -> None:
    """What the pipeline shows for latents is what `decode` shows; `encode` has the shape of the samples."""
    kept: dict[str, Any] = {}

    def look(tokens: Any) -> None:
        if not kept:
            kept["latents"] = tokens.context.encode([families.picture(40)])
            kept["shown"] = tokens.context.decode(tokens.step.sample)[0]
            kept["sample"] = tokens.step.sample

    more = {"output_type": "pil"}
    pipe = families.build(family)
    with attach(pipe, Listener(look)):
        families.run(family, steps=2)
    assert kept["latents"].shape == kept["sample"].shape and kept["latents"].std() > 0.05
    held: list[Tensor] = []

    def show(p: Any, i: int, t: Any, kwargs: dict[str, Tensor]) -> dict[str, Tensor]:
        held.append(kwargs["latents"])
        return {"latents": kept["sample"].to(kwargs["latents"].dtype)} if i == 1 else {}

    if family in ("pixart", "sana"):
        return  # they offer no such callback
    shown = pipe(**families.arguments(family, steps=2, **more), callback_on_step_end=show).images[0]
    assert np.abs(np.asarray(shown, dtype=int) - np.asarray(kept["shown"], dtype=int)).max() <= 1


def test_noise_clean_shows_the_picture_itself() -> None:
    latents = torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(5))
    found = {}
    for noise in ("fixed", "clean"):
        with attach(families.build("sd15"), NegToMe(latents, 0.9, 0.5, ALWAYS, noise=noise)):
            found[noise] = run("sd15", images=1, steps=2)
    assert not close(found["fixed"], found["clean"])


class Eye:
    """Stands for a CLIP: mean colours."""

    name = "eye/test"

    def __init__(self) -> None:
        self.seen = 0

    def images(self, pictures: list[Image.Image]) -> Tensor:
        self.seen += len(pictures)
        rows = [torch.tensor(np.asarray(p.convert("RGB"), dtype=np.float32).mean((0, 1))) for p in pictures]
        return torch.nn.functional.normalize(torch.stack(rows), dim=-1)


def colours(folder: Path) -> dict[str, tuple[int, int, int]]:
    found = {"a red": (250, 5, 5), "b green": (5, 250, 5), "c blue": (5, 5, 250)}
    for name, colour in found.items():
        Image.new("RGB", (32, 32), colour).save(folder / f"{name}.png")
    return found


def test_a_bank_caches_its_embeddings_and_follows_its_folder(tmp_path: Path) -> None:
    colours(tmp_path)
    eye = Eye()
    Bank(str(tmp_path), eye).open()
    assert eye.seen == 3 and (tmp_path / ".negguide-eye_test.safetensors").is_file()
    opened = Bank(str(tmp_path), eye).open()
    assert eye.seen == 3, "nothing is embedded twice"
    Image.new("RGB", (32, 32), (200, 200, 5)).save(tmp_path / "d yellow.png")
    (tmp_path / "a red.png").unlink()
    again = Bank(str(tmp_path), eye).open()
    assert eye.seen == 4 and [p.stem for p in again.paths] == ["b green", "c blue", "d yellow"]
    pictures = [Image.new("RGB", (8, 8), c) for c in ((200, 10, 10), (10, 10, 200), (10, 10, 190))]
    assert opened.hardest(pictures, ((0,), (1, 2)), 1) == [[0], [2]]
    (tmp_path / ".negguide-eye_test.safetensors").write_bytes(b"broken")
    assert len(Bank(str(tmp_path), eye).open().embeddings) == 3


def test_a_bank_equals_its_hardest_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    names = list(colours(tmp_path))
    monkeypatch.setattr(latents, "decode", lambda *a: [Image.new("RGB", (8, 8), (9, 200, 9))] * len(a[-1]))
    window = Window(0.3, 1.0)
    found = {}
    for key, reference in {"bank": Bank(str(tmp_path), Eye()), "green": tmp_path / f"{names[1]}.png"}.items():
        with attach(families.build("sd15"), NegToMe(reference, 0.9, 0.5, window)):
            found[key] = run("sd15", images=2)
    assert torch.equal(found["bank"], found["green"])
    with attach(families.build("sd15"), NegToMe(Bank(str(tmp_path), Eye()), 0.9, 0.5, Window(0, 0.3))) as attached:
        assert torch.equal(run("sd15"), run_plain())
    assert attached.passes == 6, "before the first clean estimate there is nothing to go by"


def run_plain() -> Tensor:
    from negguide.pipeline import intercept

    pipe = families.build("sd15")
    return intercept.base_class(pipe).__call__(pipe.from_pipe(pipe), **call("sd15")).images


@pytest.mark.parametrize("upcast", [True, False])
def test_a_vae_that_overflows_in_half_precision_works_in_single(upcast: bool) -> None:
    """SDXL's own (`force_upcast`): encoded and decoded as the same weights in float32, and half again afterwards."""
    half = copy.deepcopy(families.build("sdxl"))
    half.vae.register_to_config(force_upcast=upcast)
    half.vae.to(torch.float16)
    single = copy.deepcopy(half)
    single.vae.to(torch.float32)
    layout = Layout((1, 4, 16, 16))
    clean = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    size = 16 * half.vae_scale_factor
    found = [latents.encode(pipe, layout, [families.picture(size)], clean) for pipe in (half, single)]
    assert torch.equal(*found) == upcast
    images = [np.asarray(latents.decode(pipe, layout, clean)[0]) for pipe in (half, single)]
    assert not upcast or np.array_equal(*images)
    assert half.vae.dtype == torch.float16 and single.vae.dtype == torch.float32
