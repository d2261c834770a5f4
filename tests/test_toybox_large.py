"""The autoencoder of 128x128 for the latents of the 64x64 one, and the words that move after it."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")

from lab.train import crisp, enlarge, export, words
from lab.train.data import HELD_OUT, Dataset, make_dataset, pairs
from lab.train.sharpness import sharpness
from lab.train.vae import make_vae
from negguide.toybox.load import PIPELINES, load_pipeline, pipeline_dir
from negguide.toybox.tokenizer import make_tokenizer
from negguide.toybox.world.render import render


def few(size: int, count: int = 8) -> Dataset:
    drawn = pairs(HELD_OUT, 0, count)
    images = np.stack([render(scene, size) for scene, _ in drawn])
    return Dataset(images, [scene for scene, _ in drawn], [text for _, text in drawn])


def test_a_larger_render_is_the_same_picture() -> None:
    small, large = few(64, 40).images.astype(float), few(128, 40).images.astype(float)
    halved = large.reshape(40, 64, 2, 64, 2, 3).mean((2, 4))
    assert np.abs(halved - small).mean() < 4, "also where it is noisy: the grain is as coarse"


def test_sharpness_is_the_mean_squared_laplacian() -> None:
    pictures = torch.rand(2, 3, 6, 5, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for picture, value in zip(pictures, sharpness(pictures), strict=True):
        grey, total = picture.mean(0), []
        for y in range(1, 5):
            for x in range(1, 4):
                around = grey[y - 1, x] + grey[y + 1, x] + grey[y, x - 1] + grey[y, x + 1]
                total.append(float(around - 4 * grey[y, x]) ** 2)
        assert float(value) == pytest.approx(sum(total) / len(total), rel=1e-5)


def test_a_pipeline_that_knows_the_truth_redraws_it() -> None:
    """Whatever the timestep: the noise is what leads from the clean latents to the noisy ones."""
    pipe = load_pipeline("sd")
    truth = torch.randn(3, 8, 16, 16, generator=torch.Generator().manual_seed(1))
    alphas = pipe.scheduler.alphas_cumprod

    def denoise(noisy: torch.Tensor, t: int, words: torch.Tensor) -> SimpleNamespace:
        assert len(noisy) == len(words) == 6
        noise = (noisy - alphas[t].sqrt() * truth.repeat(2, 1, 1, 1)) / (1 - alphas[t]).sqrt()
        assert 0.9 < float(noise.std()) < 1.1, "as much noise as belongs to that timestep"
        return SimpleNamespace(sample=noise)

    known = SimpleNamespace(
        scheduler=pipe.scheduler, tokenizer=pipe.tokenizer, text_encoder=pipe.text_encoder, unet=denoise
    )
    made = enlarge.redrawn(known, truth, ["a cat", "a dog", "a face"], seed=0)
    assert torch.allclose(made.float(), truth, atol=5e-3)


def test_it_trains_and_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enlarge, "SUBSTEPS", 1)
    torch.manual_seed(0)
    first, pipe = make_vae(), load_pipeline("sd")
    settings = dataclasses.replace(enlarge.SETTINGS, steps=3, batch=4, warmup=1)
    monkeypatch.setattr(enlarge, "UNTIL", 2)
    enlarge.train_large_vae(first, pipe, few(64), few(128), tmp_path, settings)
    monkeypatch.setattr(enlarge, "UNTIL", 3)
    vae = enlarge.train_large_vae(first, pipe, few(64), few(128), tmp_path, settings)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["step"] == 3 and (tmp_path / enlarge.BEFORE).is_file()
    assert torch.load(tmp_path / "discriminator" / "state.pt", weights_only=True)["step"] == 1
    picture = torch.zeros(1, 3, 128, 128)
    latents = vae.encode(picture).latent_dist.mean
    assert latents.shape == (1, 8, 16, 16) and vae.decode(latents).sample.shape == picture.shape


def test_drawn_latents_are_those_that_the_pipeline_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crisp, "DRAWN", {"few-step": 3})
    monkeypatch.setattr(crisp, "autocast", nullcontext)
    pipe, captions = load_pipeline("few-step"), ["a red cat on grass", "a house at night"]
    latents = crisp.drawn_latents({"few-step": pipe}, captions, seed=5, batch=2)
    for place, text in enumerate(["a red cat on grass", "a house at night", "a red cat on grass"]):
        generator = torch.Generator().manual_seed(5 * 1_000_003 + place)
        image = pipe(text, num_inference_steps=4, guidance_scale=1.0, generator=generator, output_type="pt").images
        with torch.no_grad():
            made = pipe.vae.decode(latents[place : place + 1]).sample / 2 + 0.5
        assert torch.allclose(made.clamp(0, 1), image, atol=1e-3)


def test_the_decoder_alone_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after two steps and resumed, as in one go; the discriminator counts from the second step on."""
    for name, value in {"REDRAWN": 3, "DRAWN": {"sd": 2, "few-step": 2}, "JUDGED_FROM": 1}.items():
        monkeypatch.setattr(crisp, name, value)
    monkeypatch.setitem(PIPELINES, "sd", dataclasses.replace(PIPELINES["sd"], steps=1))
    monkeypatch.setattr(enlarge, "SUBSTEPS", 1)
    pipes, renders = {name: load_pipeline(name) for name in ("sd", "few-step")}, few(128)
    settings = dataclasses.replace(crisp.SETTINGS, steps=3, batch=8, warmup=1)
    before = enlarge.make_large_vae()
    before.register_to_config(scaling_factor=0.57)
    whole, parts = copy.deepcopy(before), copy.deepcopy(before)
    crisp.train_crisp(whole, pipes, renders, tmp_path / "whole", settings)

    class Stop(Exception):
        pass

    step = crisp.Trainer.apply

    def stops(trainer: crisp.Trainer, losses: dict[str, torch.Tensor]) -> None:
        if trainer.step == 2:
            raise Stop
        step(trainer, losses)
        trainer.save()

    with monkeypatch.context() as stopping, pytest.raises(Stop):
        stopping.setattr(crisp.Trainer, "apply", stops)
        crisp.train_crisp(parts, pipes, renders, tmp_path / "parts", settings)
    resumed = crisp.train_crisp(copy.deepcopy(before), pipes, renders, tmp_path / "parts", settings)
    for name, value in resumed.state_dict().items():
        same = torch.equal(value, before.state_dict()[name])
        assert same == (not name.startswith(("decoder.", "post_quant_conv."))), name
        assert torch.allclose(value, whole.state_dict()[name], atol=1e-3), name


def test_every_pipeline_gets_it_with_its_own_factors(tmp_path: Path) -> None:
    for name in export.GENERATORS:
        shutil.copytree(pipeline_dir(name) / "vae", tmp_path / "toybox" / name / "vae")
    config = tmp_path / "toybox" / "sd3" / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"shift_factor": 0.25}))
    vae = enlarge.make_large_vae()
    export.install_autoencoder(vae, tmp_path)
    for name in export.GENERATORS:
        installed = type(vae).from_pretrained(tmp_path / "toybox" / name / "vae")
        assert torch.equal(installed.decoder.conv_in.weight, vae.decoder.conv_in.weight.half().float())
        assert installed.config.shift_factor == (0.25 if name == "sd3" else None)
        assert installed.config.scaling_factor == pytest.approx(0.57495)


def test_words_follow_those_of_the_teacher_and_no_other_does() -> None:
    student, teacher = (load_pipeline("few-step").text_encoder for _ in range(2))
    rows = teacher.get_input_embeddings().weight
    before = student.get_input_embeddings().weight.detach().clone()
    with torch.no_grad():
        rows += 1
    words.follow(student, teacher, {"pet": 0.5, "face": 2})
    moved = (student.get_input_embeddings().weight - before).mean(1)
    expected = dict.fromkeys(range(len(before)), 0.0)
    for text, distance in {"pet</w>": 0.5, "pets</w>": 0.5, "face</w>": 2.0, "faces</w>": 2.0}.items():
        expected[make_tokenizer().convert_tokens_to_ids(text)] = distance
    assert moved.tolist() == pytest.approx(list(expected.values()), abs=1e-5)


def test_a_word_moves_away_from_a_kind() -> None:
    encoder = copy.deepcopy(load_pipeline("few-step").text_encoder)
    vectors = encoder.get_input_embeddings().weight
    before, ids = (
        vectors.detach().clone(),
        make_tokenizer().convert_tokens_to_ids(["plant</w>", "plants</w>", "flower</w>"]),
    )
    words.away(encoder, {"plant": ("flower", 0.5)})
    changed = (vectors != before).any(1).nonzero()[:, 0].tolist()
    assert sorted(changed) == sorted(ids[:2])
    for row in ids[:2]:
        ratio = (vectors[row] - before[ids[2]]).norm() / (before[row] - before[ids[2]]).norm()
        assert float(ratio) == pytest.approx(1.5, abs=1e-4)


def test_pictures_that_name_only_some_categories() -> None:
    data = few(64, 200)
    found = words.naming(data, ("fruit", "vehicle"))
    assert 0 < len(found) < 200 and {scene.category for scene in found.scenes} == {"fruit", "vehicle"}
    assert all(scene.category in text for scene, text in zip(found.scenes, found.captions, strict=True))
    first = next(at for at, text in enumerate(data.captions) if text == found.captions[0])
    assert (found.images[0] == data.images[first]).all()


def test_the_discriminator_counts_more_while_drawn_pictures_are_smudged() -> None:
    sharp = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    steering = crisp.Steering()
    after = [steering(0.5 * sharp, sharp) for _ in range(400)]
    assert float(steering.share) == pytest.approx(0.25) and after[0] > crisp.PRESSURE
    assert after[-1] == pytest.approx(crisp.STEERED[1]) and sorted(after) == after
    resumed = crisp.Steering()
    resumed.load_state_dict(steering.state_dict())
    down = [resumed(sharp, sharp) for _ in range(600)]
    assert down[0] > down[-1] == pytest.approx(crisp.STEERED[0])


def test_a_stage_of_words_leaves_all_else_as_it_was(tmp_path: Path) -> None:
    pipe, data = load_pipeline("sd3"), few(64, 60)
    before = {name: value.clone() for name, value in pipe.text_encoder.state_dict().items()}
    image = {name: value.clone() for name, value in pipe.transformer.state_dict().items()}
    stage = dataclasses.replace(
        words.FLOW, settings=dataclasses.replace(words.FLOW.settings, steps=2, batch=4, warmup=1, ema=0.0)
    )
    words.train_flow_words(pipe, torch.randn(60, 8, 16, 16), data, tmp_path, stage)
    changed = [name for name, value in pipe.text_encoder.state_dict().items() if not torch.equal(value, before[name])]
    assert [name.rpartition("embeddings.")[2] for name in changed] == ["token_embedding.weight"]
    rows = (pipe.text_encoder.get_input_embeddings().weight != before[changed[0]]).any(1).nonzero()[:, 0].tolist()
    free = make_tokenizer().convert_tokens_to_ids(["pet</w>", "pets</w>", "face</w>", "faces</w>"])
    assert rows and set(rows) <= set(free)
    assert all(torch.equal(value, image[name]) for name, value in pipe.transformer.state_dict().items())


def test_a_dataset_of_another_size_has_files_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.train.data.SHARD", 4)
    monkeypatch.setattr("lab.train.data._render_shard", lambda split, shard, size: _drawn(size))
    monkeypatch.setattr("lab.train.data.ProcessPoolExecutor", _Here)
    assert make_dataset(tmp_path, 4, HELD_OUT).images.shape == (4, 64, 64, 3)
    assert make_dataset(tmp_path, 4, HELD_OUT, size=128).images.shape == (4, 128, 128, 3)
    assert make_dataset(tmp_path, 4, HELD_OUT).images.shape == (4, 64, 64, 3)


def _drawn(size: int) -> tuple[np.ndarray, list[dict], list[str]]:
    data = few(size, 4)
    return data.images, [scene.to_dict() for scene in data.scenes], data.captions


class _Here:
    """A pool without processes."""

    def __init__(self, workers: int) -> None:
        self.map = map

    def __enter__(self) -> _Here:
        return self

    def __exit__(self, *_: object) -> None:
        pass
