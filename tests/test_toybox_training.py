"""The flow-matching and the few-step pipeline: what their trainings rest on."""

import pytest
import torch
from diffusers import DDIMScheduler
from torch import nn

from lab.train import mmdit, student
from lab.train.card import stages_of
from lab.train.denoiser import make_scheduler, make_text_encoder
from negguide.toybox.load import PIPELINES, bundled, load_pipeline
from negguide.toybox.tokenizer import MAX_LENGTH, make_tokenizer


@pytest.fixture(scope="module")
def modules() -> nn.ModuleDict:
    torch.manual_seed(0)
    size = len(make_tokenizer())
    return nn.ModuleDict(
        {
            "transformer": mmdit.make_transformer(),
            "text_encoder": mmdit.with_projection(make_text_encoder(size)),
            "text_encoder_2": mmdit.make_second_text_encoder(size),
        }
    ).eval()


@pytest.mark.parametrize("zeros", [0, mmdit.T5_TOKENS])
def test_texts_are_encoded_in_training_as_the_stock_pipeline_encodes_them(modules, zeros):
    pipe = mmdit.make_pipeline(load_pipeline("sd").vae, modules)
    texts = ["a red cat on grass", ""]
    ids = pipe.tokenizer(texts, padding="max_length", max_length=MAX_LENGTH, return_tensors="pt").input_ids
    with torch.no_grad():
        words, pooled = mmdit.encode_texts(modules, ids, zeros)
        expected = pipe.encode_prompt(texts, None, None, do_classifier_free_guidance=False, max_sequence_length=zeros)
    assert torch.equal(words, expected[0]) and torch.equal(pooled, expected[2])
    assert words.shape == (2, MAX_LENGTH + zeros, 192) and pooled.shape == (2, 192)


def test_a_text_encoder_with_projection_starts_as_the_one_it_was_made_of():
    torch.manual_seed(1)
    plain = make_text_encoder(len(make_tokenizer())).eval()
    ids = torch.randint(2, 40, (3, MAX_LENGTH))
    with torch.no_grad():
        before, after = plain(ids), mmdit.with_projection(plain).eval()(ids)
    assert torch.equal(before.last_hidden_state, after.last_hidden_state)
    assert torch.allclose(before.pooler_output, after.text_embeds, atol=1e-6)


def test_a_jump_is_the_noise_with_which_ddim_gets_there():
    scheduler: DDIMScheduler = make_scheduler()
    times, begins, ends = student.stretches(scheduler)
    generator = torch.Generator().manual_seed(2)
    for place in range(student.STEPS):
        begin, end = torch.randn(2, 3, 8, 4, 4, generator=generator)
        alphas = (alpha[place].expand(3, 1, 1, 1) for alpha in (begins, ends))
        noise = student.jump(begin, end, *alphas)
        assert torch.allclose(scheduler.step(noise, times[place], begin).prev_sample, end, atol=1e-5)


def test_the_teacher_passes_through_the_times_of_the_student():
    pipe = load_pipeline("sd")
    times, _, _ = student.stretches(pipe.scheduler)
    teacher = student.teacher_scheduler(pipe)
    teacher.set_timesteps(student.STEPS * student.SUBSTEPS)
    assert teacher.timesteps[:: student.SUBSTEPS].tolist() == times.tolist()


def test_trajectories_begin_with_their_noise_and_end_in_the_teachers_picture(tmp_path, monkeypatch):
    import numpy as np

    monkeypatch.setattr(student, "SHARD", 4)
    monkeypatch.setattr(student, "CHUNK", 4)
    threads = torch.get_num_threads()
    student.make_shard(["a red apple on grass"] * 4, 0, tmp_path / "0.npy")
    torch.set_num_threads(threads)
    states = np.load(tmp_path / "0.npy").astype(np.float32)
    assert states.shape == (4, student.STEPS + 1, 8, 16, 16) and np.isfinite(states).all()
    noise = torch.randn(4, 8, 16, 16, generator=torch.Generator().manual_seed(student.SETTINGS.seed * 1_000_003))
    assert np.abs(states[:, 0] - noise.numpy()).max() < 2e-3
    pipe = load_pipeline("sd")
    pipe.scheduler = student.teacher_scheduler(pipe)
    wanted = pipe(
        "a red apple on grass", num_inference_steps=12, guidance_scale=5.0, latents=noise[:1], output_type="latent"
    ).images[0]
    assert np.abs(states[0, -1] - wanted.numpy()).mean() < 0.05  # the trajectories are made under bf16 autocast


def test_a_card_keeps_its_remark_as_long_as_it_is_the_same_training(tmp_path):
    work, folder = tmp_path / "work", tmp_path / "folder"
    folder.mkdir()
    (work / "one").mkdir(parents=True)
    (folder / "training.json").write_text(
        '{"one": {"minutes": 2.0, "hardware": "a core", "remark": "begun elsewhere"}}'
    )
    remarks = []
    for seconds in (120.0, 180.0):
        torch.save({"seconds": seconds}, work / "one" / "state.pt")
        remarks.append(stages_of(work, {"one": student.SETTINGS}, folder)["one"].remark)
    (work / "one" / "state.pt").unlink()
    remembered = stages_of(work, {"one": student.SETTINGS}, folder)["one"]
    assert remarks == ["begun elsewhere", ""] and (remembered.minutes, remembered.remark) == (3.0, "")


def test_names_of_bundled_models():
    assert [bundled(name) for name in ("toybox", "toybox/sd3", "toybox/few-step")] == list(PIPELINES)
    assert bundled("org/model") is None and bundled("./toybox") is None
    with pytest.raises(ValueError, match=r"'sdxl'; possible: sd, sd3, few-step"):
        bundled("toybox/sdxl")
