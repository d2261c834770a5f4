"""The bundled pipelines beside the first one: they load by the stock classes, draw what is asked, and are benched."""

import itertools

import diffusers
import numpy as np
import pytest
import torch

import negguide as ng
from lab.bench import arms, pairs
from lab.bench.run import BATCH, _calls, run_bench
from lab.generate import generate
from negguide.cli import main
from negguide.experiment.models import load_model
from negguide.toybox.load import PIPELINES, load_pipeline, pipeline_dir
from negguide.toybox.oracle import Oracle

CLASSES = {"sd": "StableDiffusionPipeline", "sd3": "StableDiffusion3Pipeline", "few-step": "StableDiffusionPipeline"}
ASKED = ("a red apple on grass", "a blue car on sand", "a white house in snow", "a green flower in a room")


@pytest.fixture(scope="module", params=["sd3", "few-step"])
def bundled(request):
    return request.param, load_pipeline(request.param)


def draw(name, pipe, prompts, seeds, *methods, **call):
    usual = PIPELINES[name]
    call = {"steps": usual.steps, "guidance_scale": usual.guidance_scale, **usual.more, **call}
    return generate(pipe, prompts, seeds, *methods, **call)


@pytest.mark.parametrize("name", PIPELINES)
def test_the_stock_class_loads_each_folder_and_nothing_betrays_where_it_was_made(name):
    cls = getattr(diffusers, CLASSES[name])
    absent = {"text_encoder_3": None, "tokenizer_3": None} if name == "sd3" else {}
    assert type(cls.from_pretrained(str(pipeline_dir(name)), **absent)) is cls
    for file in pipeline_dir(name).rglob("*.json"):
        assert "_name_or_path" not in file.read_text()


def test_pictures_show_what_is_asked(bundled):
    name, pipe = bundled
    asked = list(ASKED) * 4
    judged = Oracle.load().judge(draw(name, pipe, asked, range(500, 516)))
    assert np.mean([judged.matches(prompt)[place] for place, prompt in enumerate(asked)]) >= 0.6


def test_the_zero_tokens_of_the_missing_t5_change_little():
    pipe = load_pipeline("sd3")
    call = {"num_inference_steps": 8, "guidance_scale": 5.0, "output_type": "np"}
    with_them, without = (
        pipe(ASKED[0], generator=torch.Generator().manual_seed(1), max_sequence_length=length, **call).images[0]
        for length in (256, 0)
    )
    assert np.abs(with_them - without).mean() < 0.1


def test_the_student_makes_one_pass_a_step_and_its_teacher_needs_guidance():
    pipe = load_pipeline("few-step")
    with ng.attach(pipe, ng.NAG("cat")) as attached:
        pipe("a pet on grass", num_inference_steps=4, guidance_scale=1.0, output_type="latent")
    assert attached.passes == 4
    oracle = Oracle.load()
    few = oracle.judge(draw("few-step", pipe, list(ASKED) * 4, range(16)))
    teacher = oracle.judge(generate(load_pipeline("sd"), list(ASKED) * 4, range(16), steps=4, guidance_scale=1.0))

    def right(judged):
        return np.mean([judged.matches(prompt)[place] for place, prompt in enumerate(list(ASKED) * 4)])

    assert right(few) >= right(teacher) + 0.2


def test_negatives_act_without_guidance():
    pipe, oracle = load_pipeline("few-step"), Oracle.load()
    plain = oracle.judge(draw("few-step", pipe, ["a pet on grass"] * 24, range(24))).has("cat").mean()
    without = {
        method: oracle.judge(draw("few-step", pipe, ["a pet on grass"] * 24, range(24), method)).has("cat").mean()
        for method in (ng.NAG("cat", scale=8.0), ng.VSF("cat", scale=2.5))
    }
    assert plain > 0.5
    assert min(without.values()) < 0.6 * plain


def test_the_bench_of_the_few_step_pipeline(tmp_path):
    chosen = (pairs.pairs()[0], pairs.pairs()[40], pairs.pairs()[0])
    compared = [arm for arm in arms.arms("few-step") if arm.name in ("plain", "nag 3", "vsf 1")]
    rows = run_bench(tmp_path, 1, chosen, compared, model="few-step", steps=2, guidance_scale=1.0)
    assert [row["arm"] for row in rows] == ["plain"] * 3 + ["nag 3"] * 3 + ["vsf 1"] * 3
    assert [row["negative"] for row in rows[6:]] == [pair.negative for pair in chosen]
    alone = run_bench(tmp_path / "alone", 1, chosen[1:2], compared, model="few-step", steps=2, guidance_scale=1.0)
    assert len(alone) == 3
    images = np.load(tmp_path / "vsf-1.npy")
    assert images.shape == (3, 128, 128, 3) and not (images[0] == images[2]).all()


def test_a_bench_calls_a_model_as_it_is_meant_to_be_called(tmp_path):
    """Four steps without guidance, not the 25 steps and the scale of the first pipeline."""
    pair = pairs.pairs()[0]
    plain = [arm for arm in arms.arms("few-step") if arm.name == "plain"]
    (row,) = run_bench(tmp_path, 1, (pair,), plain, model="few-step")
    pipe = load_pipeline("few-step")
    noise = torch.Generator().manual_seed(row["seed"])
    call = {"num_inference_steps": 4, "guidance_scale": 1.0, "generator": [noise], "output_type": "np"}
    expected = (pipe([pair.prompt], **call).images * 255).round().astype(np.uint8)
    assert np.array_equal(np.load(tmp_path / "plain.npy"), expected)


def test_calls_of_a_bench_hold_one_negative_where_the_method_takes_one():
    chosen = [pairs.Pair("a pet", text, "easy", "", "pet", None) for text in ("cat", "dog", "cat")]
    cases = [(pair, seed) for seed, pair in enumerate(itertools.islice(itertools.cycle(chosen), 3 * BATCH))]
    apart = list(_calls(cases, alike=True))
    assert all(len({cases[place][0].negative for place in places}) == 1 for places in apart)
    assert (
        sorted(itertools.chain(*apart)) == list(range(3 * BATCH)) == list(itertools.chain(*_calls(cases, alike=False)))
    )
    assert max(map(len, apart)) <= BATCH


def test_arms_of_a_pipeline_fit_it():
    assert {arm.method for arm in arms.arms("few-step")} == {"plain", "nag", "vsf", "nag early", "recommended"}
    assert arms.arms("sd") == arms.arms("sd3")
    for name in PIPELINES:
        assert arms.reference(name) in [arm.name for arm in arms.arms(name)]


def test_compare_takes_bundled_models_by_name_with_their_own_settings(tmp_path, capsys):
    line = ["compare", "a pet", "-n", "cat", "-m", "plain,nag", "--seeds", "0", "--out", str(tmp_path)]
    assert main([*line, "--model", "toybox/few-step"]) == 0
    assert "--steps 4" in (tmp_path / "results.json").read_text()
    assert load_model("toybox/sd3").more == {"max_sequence_length": 0}
    assert load_model(str(pipeline_dir("sd3"))).pipe.text_encoder_3 is None
    assert main([*line, "--model", "toybox/sdxl"]) == 2
    assert "possible: toybox, toybox/sd3, toybox/few-step" in capsys.readouterr().err
