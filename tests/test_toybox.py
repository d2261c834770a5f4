"""The bundled generator: it loads by the stock classes, draws what is asked, and the bench counts right."""

import itertools
import json
import re

import numpy as np
import pytest
import torch
from scipy import stats

from lab.bench import arms, pairs, summary
from lab.bench.run import run_bench
from lab.generate import generate
from lab.train.common import Settings, Trainer, batches
from lab.train.data import BENCH, HELD_OUT, TRAIN
from lab.train.data import pairs as data_pairs
from negguide.toybox.load import assets_dir, load_pipeline, pipeline_dir
from negguide.toybox.oracle import Oracle
from negguide.toybox.phrases import parse
from negguide.toybox.tokenizer import MAX_LENGTH, make_tokenizer
from negguide.toybox.world import bias
from negguide.toybox.world.captions import vocabulary


@pytest.fixture(scope="module")
def pipe():
    return load_pipeline("sd")


def test_files_are_small_safe_and_described():
    files = [file for file in (assets_dir() / "toybox").rglob("*") if file.is_file()]
    assert all(file.stat().st_size < 20_000_000 for file in files)
    assert sum(file.stat().st_size for file in files) < 70_000_000
    assert {file.suffix for file in files} <= {".safetensors", ".json", ".txt", ".md"}
    for name in ("sd", "oracle", "clip"):
        card = (assets_dir() / "toybox" / name / "README.md").read_text()
        stages = [line for line in card.partition("## Training")[2].partition("##")[0].splitlines() if line[:1] == "-"]
        assert stages and all(re.search(r"seed \d.* wall time [\d.]+ minutes.* on .*\w", line) for line in stages)


def test_stock_classes_load_the_folder():
    from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel

    loaded = StableDiffusionPipeline.from_pretrained(str(pipeline_dir("sd")))
    assert type(loaded) is StableDiffusionPipeline
    assert isinstance(loaded.unet, UNet2DConditionModel) and isinstance(loaded.vae, AutoencoderKL)
    assert loaded.scheduler.config.prediction_type == "epsilon"
    assert loaded.unet.config.sample_size == 16 and loaded.vae_scale_factor == 8


def test_unknown_pipeline_is_named():
    with pytest.raises(ValueError, match="possible: sd"):
        pipeline_dir("sdxl")


def test_pictures_show_what_is_asked(pipe):
    asked = ["a red apple on grass", "a blue car on sand", "a white house in snow", "a green flower in a room"] * 4
    judged = Oracle.load().judge(generate(pipe, asked, range(500, 516)))
    hits = [judged.matches(prompt)[place] for place, prompt in enumerate(asked)]
    assert np.mean(hits) >= 0.75


def test_a_seed_is_a_picture_whatever_the_batch(pipe):
    prompts = ["a pet", "a fruit on grass", "a face"]
    together = generate(pipe, prompts, [1, 2, 3], steps=3, batch=3)
    alone = np.concatenate(
        [generate(pipe, [prompt], [seed], steps=3) for prompt, seed in zip(prompts, [1, 2, 3], strict=True)]
    )
    assert np.abs(together.astype(int) - alone.astype(int)).max() <= 2


def test_every_word_is_one_token():
    tokenizer = make_tokenizer()
    for word in vocabulary():
        assert tokenizer.tokenize(word) == [word + "</w>"]
    assert tokenizer("zeppelin").input_ids[1:-1].count(tokenizer.unk_token_id) == 0
    assert len(tokenizer("cat " * 99, truncation=True).input_ids) == MAX_LENGTH
    assert (
        json.loads((pipeline_dir("sd") / "tokenizer" / "tokenizer.json").read_text())["model"]["vocab"]
        == tokenizer.get_vocab()
    )


def test_splits_share_no_stream():
    assert data_pairs(TRAIN, 3, 20) == data_pairs(TRAIN, 3, 20)
    seen = [tuple(scene.seed for scene, _ in data_pairs(split, 0, 50)) for split in (TRAIN, HELD_OUT, BENCH)]
    assert not set(seen[0]) & set(seen[1]) | set(seen[1]) & set(seen[2])


def test_batches_go_on_where_they_stopped():
    whole = list(itertools.islice(batches(50, 8, seed=4), 20))
    later = list(itertools.islice(batches(50, 8, seed=4, start=9), 11))
    assert all((a == b).all() for a, b in zip(whole[9:], later, strict=True))
    epoch = np.concatenate(whole[:6])
    assert len(set(epoch)) == 48


def test_a_training_that_resumes_equals_one_that_did_not(tmp_path):
    def train(folder, stops):
        for stop in stops:
            torch.manual_seed(0)
            net = torch.nn.ModuleDict({"net": torch.nn.Linear(4, 1)})
            trainer = Trainer(net, Settings(steps=12, batch=2, lr=0.1, warmup=3), folder)
            while trainer.step < stop:
                x = torch.randn(8, 4, generator=torch.Generator().manual_seed(trainer.step))
                trainer.update({}, (net["net"](x) - x.sum(1, keepdim=True)).square().mean())
            trainer.save()
        return trainer.average["net.weight"]

    assert torch.equal(train(tmp_path / "a", [12]), train(tmp_path / "b", [5, 12]))


def test_learning_rate_warms_up_stays_and_decays(tmp_path):
    net = torch.nn.ModuleDict({"net": torch.nn.Linear(1, 1)})
    trainer = Trainer(net, Settings(steps=100, batch=1, lr=1.0, warmup=10, decay_from=0.5, final_lr=0.1), tmp_path)
    rates = []
    for trainer.step in (0, 9, 30, 50, 75, 100):
        rates.append(trainer.rate())
    assert rates == pytest.approx([0.1, 1.0, 1.0, 1.0, 0.55, 0.1])


def test_pairs_are_what_they_say():
    every = pairs.pairs()
    assert len(every) >= 200 and len(set(every)) == len(every)
    assert {pair.split for pair in every} == {"easy", "hard"}
    for pair in every:
        for text in (pair.prompt, pair.negative, pair.subject, pair.gone or "cat"):
            parse(text)
        words, unwanted = set(pair.prompt.split()), set(pair.negative.split()) - {"a", "an", "on", "in", "at", "with"}
        if pair.split == "easy":
            assert not words & unwanted


def test_arms_hold_their_strength():
    texts = ("a cat", "a dog")
    for arm in arms.arms():
        made = arm.make(texts)
        assert len(made) == (arm.method != "plain")
    weights = [arm.make(texts)[0].negatives[0].weight for arm in arms.arms() if arm.method == "perp_neg"]
    assert weights == sorted(weights) and len(set(weights)) == len(weights)


def test_arms_are_chosen_by_name():
    every = arms.arms()
    assert [arm.name for arm in arms.named("perp_neg 2", every, ("plain",))] == ["plain", "perp_neg 2"]
    assert arms.named(None, every, ()) == every
    with pytest.raises(ValueError, match=r"possible: plain, negative 0\.5"):
        arms.named("perp_neg 9", every, ())


def _row(arm, strength, present, kept, match, kind="cat", theme="dominant kind", seed=0):
    return {
        "arm": arm, "method": arm.split()[0], "strength": strength, "split": "hard", "theme": theme, "seconds": 0.1,
        "prompt": "a pet on grass", "negative": "a cat", "seed": seed, "present": present,
        "kept": kept, "match": match, "kind": kind,
    }  # fmt: skip


def test_summary_counts():
    rows = [
        _row("plain", 0, True, True, True),
        _row("plain", 0, False, True, False, "dog"),
        _row("plain", 0, None, False, True),
    ]
    (line,) = summary.summarise(rows)
    assert line["presence"]["mean"] == 0.5 and line["kept"]["mean"] == 1.0 and line["match"]["mean"] == 0.5
    assert line["specificity"]["mean"] == 1.0
    assert line["kinds"] == pytest.approx(-(2 / 3 * np.log2(2 / 3) + 1 / 3 * np.log2(1 / 3)), abs=1e-3)


def test_interval_covers_the_mean_and_shrinks():
    few, many = ([_row("plain", 0, i % 2 == 0, True, True, seed=i) for i in range(count)] for count in (10, 1000))
    few, many = summary.rate(few, "present"), summary.rate(many, "present")
    assert few["low"] < 0.5 < few["high"] and many["high"] - many["low"] < few["high"] - few["low"]
    assert summary.rate([], "present") is None
    never = summary.rate([_row("plain", 0, False, True, True, seed=i) for i in range(10)], "present")
    assert never["mean"] == never["low"] == 0 and never["high"] == pytest.approx(0.278, abs=0.01)  # Wilson's, 0 of 10


def test_differences_are_over_pairs_and_corrected():
    rows = []
    for place in range(8):
        for arm, present in (("negative 1", place < 4), ("nag 3", False), ("perp_neg 1", place < 4)):
            rows.append({**_row(arm, 1, present, True, True), "prompt": f"a pet {place}"})
    better, same = summary.differences(summary.told_clean(rows), "hard", "clean", "negative 1")
    assert better["arm"] == "nag 3" and better["mean"] == 0.5 and better["pairs"] == 8
    sample = [0.0] * 4 + [1.0] * 4
    half = stats.t.ppf(0.975, 7) * np.std(sample, ddof=1) / np.sqrt(8)
    assert better["low"] == pytest.approx(0.5 - half, abs=1e-4) and better["high"] == pytest.approx(
        0.5 + half, abs=1e-4
    )
    assert better["p"] == pytest.approx(2 * stats.ttest_1samp(sample, 0).pvalue, abs=1e-4)  # Holm: the smallest of two
    assert same["mean"] == 0 and same["p"] == 1


def test_comparison_at_equal_presence():
    points = [(0.8, 1.0), (0.4, 0.6), (0.2, 0.2)]
    assert summary.at_presence(points, 0.6) == pytest.approx(0.8)
    assert summary.at_presence(points, 0.4) == pytest.approx(0.6)
    assert summary.at_presence(points, 0.1) is None
    rows = []
    for arm, strength, present, kept in (
        ("plain", 0, 10, 10),
        ("negative 1", 1, 4, 5),
        ("perp_neg 1", 1, 6, 10),
        ("perp_neg 2", 2, 2, 8),
    ):
        rows += [_row(arm, strength, i < present, i < kept, True, seed=i) for i in range(10)]
    result = summary.equal_presence(rows, "hard")
    assert result["presence"] == 0.4 and result["kept"] == {"negative": 0.5, "perp_neg": 0.9}
    assert result["gain"]["negative"] == {"mean": 0, "low": 0, "high": 0}
    gain = result["gain"]["perp_neg"]
    assert gain["mean"] == pytest.approx(0.4) and 0 <= gain["low"] < 0.4 < gain["high"] < 0.8


def test_comparison_is_left_out_where_it_is_not_reached():
    rows = [_row("plain", 0, True, True, True, seed=i) for i in range(20)]
    rows += [_row("negative 1", 1, False, i < 10, True, seed=i) for i in range(20)]
    rows += [_row("ccfg 1", 1, i < 10, True, True, seed=i) for i in range(20)]
    result = summary.equal_presence(rows, "hard")
    assert result["kept"]["ccfg"] is None and result["gain"]["ccfg"] is None


def _arms(*names):
    return [arm for arm in arms.arms() if arm.name in names]


@pytest.mark.parametrize("jobs", [1, 2])
def test_bench_goes_on_where_it_stopped(tmp_path, jobs):
    chosen = (pairs.pairs()[0], pairs.pairs()[40])
    call = {"steps": 2, "guidance_scale": 5.0}
    first = run_bench(tmp_path, 2, chosen, _arms("plain", "negative 1"), **call)
    lines = (tmp_path / "rows.jsonl").read_text()
    rows = run_bench(tmp_path, 2, chosen, _arms("plain", "negative 1", "perp_neg 1"), jobs=jobs, **call)
    assert (tmp_path / "rows.jsonl").read_text().startswith(lines) and rows[: len(first)] == first
    assert [row["arm"] for row in rows] == ["plain"] * 4 + ["negative 1"] * 4 + ["perp_neg 1"] * 4
    assert [row["prompt"] for row in rows[:4]] == [pair.prompt for pair in chosen] * 2
    images = [np.load(tmp_path / f"{name}.npy") for name in ("plain", "negative-1", "perp_neg-1")]
    assert all(part.shape == (4, 128, 128, 3) for part in images) and not (images[0] == images[2]).all()


def test_bias_table_names_every_top_colour():
    assert set(bias.TOP_COLOUR) == set(bias.CATEGORIES)
