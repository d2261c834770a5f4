"""The diversity bench: every arm makes the same prompts from the same seeds, and the measures say what they mean."""

from __future__ import annotations

import csv
from functools import partial

import numpy as np
import pytest
from PIL import Image

from lab.bench import avoid, diversity, export, means, views
from lab.bench.run import models, run_arms
from negguide.toybox.oracle import Oracle
from negguide.toybox.world.render import render
from negguide.toybox.world.sample import sample_scene


def test_measures_of_known_pictures():
    rng = np.random.default_rng(0)
    plain = {"background": "grass", "style": "clean", "accessories": (), "count": 1, "size": "large"}
    same = [render(sample_scene(rng, kind="cat", colour="red", position="center", **plain))] * 8
    kinds = ["cat", "cat", "cat", "cat", "dog", "dog", "rabbit", "apple"]
    mixed = [render(sample_scene(rng, kind=kind, **plain)) for kind in kinds]
    alike, spread = diversity.judge(Oracle.load(), np.stack(same + mixed), ["a pet on grass", "a pet on grass"])
    assert (alike["dominant"], alike["valid"]) == (1, 1) and (spread["dominant"], spread["valid"]) == (0.5, 7 / 8)
    assert alike["kinds"] == 1 and alike["entropy"] == 0 and alike["match"] == 1
    assert alike["vendi"] == pytest.approx(1, abs=1e-4) and alike["mss"] == pytest.approx(1, abs=1e-4)
    assert spread["kinds"] == 4 and spread["match"] == 7 / 8
    assert spread["entropy"] == pytest.approx(0.5 * 1 + 0.25 * 2 + 2 * 0.125 * 3)
    assert 1.5 < spread["vendi"] <= 8 and spread["mss"] < 0.9


def test_arms_run_and_are_reported(tmp_path):
    arms = [arm for arm in diversity.spreads() if arm.name in ("plain", "guidance 3", "interval 0.2")]
    rows = run_arms(tmp_path, arms, partial(diversity.run_spread, ("a pet", "a fruit"), "sd", 2, 5.0), 1)
    assert [row["arm"] for row in rows] == [arm.name for arm in arms for _ in range(2)]
    pictures = [np.load(tmp_path / f"{arm.name.replace(' ', '-')}.npy") for arm in arms]
    assert all(part.shape == (16, 128, 128, 3) for part in pictures)
    assert not (pictures[0] == pictures[1]).all() and not (pictures[0] == pictures[2]).all()
    alone = models()[0]("a fruit", num_inference_steps=2, guidance_scale=5.0, output_type="np", generator=_generator(9))
    assert np.abs(alone.images[0] * 255 - pictures[0][9]).max() <= 2
    table = diversity.REPORT.write(rows, tmp_path, {"steps": 2})
    assert (tmp_path / "diversity.png").stat().st_size > 1000 and (tmp_path / "diversity.json").exists()
    assert all(f"| {arm.name} |" in table for arm in arms)
    passes = {row["arm"]: row["passes"] for row in rows}
    assert passes == {"plain": 4, "guidance 3": 4, "interval 0.2": 3}
    assert table.count("| guidance 3 |") == 2 and table.count("| plain |") == 1, "plain is not compared with itself"


def test_differences_are_paired_and_corrected():
    rows = [{"arm": "plain", "prompt": str(at), "entropy": at, "match": 1.0} for at in range(8)]
    rows += [{"arm": "more", "prompt": str(at), "entropy": at + 1 + at % 2 / 10, "match": 1.0} for at in range(8)]
    rows += [{"arm": "few", "prompt": str(at), "entropy": at + 1 + at % 2 / 10, "match": 1.0} for at in range(5)]
    more, few = means.differences(rows, ("entropy", "match"))
    assert more["entropy"]["mean"] == pytest.approx(1.05, abs=1e-4) and more["entropy"]["clear"]
    assert more["match"]["mean"] == 0 and not more["match"]["clear"]
    assert more["entropy"]["p"] == pytest.approx(4 * 2**-7, abs=1e-5), (
        "of four comparisons, and no rarer than its signs"
    )
    assert not few["entropy"]["clear"], "five prompts prove nothing"
    assert means.differences(rows, ()) == []


def _generator(place):
    import torch

    from lab.score import SEED_START

    return torch.Generator().manual_seed(SEED_START + 50_000 + place)


def test_every_arm_can_be_made():
    for arm in diversity.spreads():
        assert len(arm.methods()) == (arm.method in diversity.SWEEPS)
    names = [arm.name for arm in diversity.spreads()]
    assert len(set(names)) == len(names) and names[0] == "plain"
    assert not any("," in name for name in names), "they are chosen from a comma-separated list"


def test_copies_of_the_picture_to_avoid_are_counted():
    (first, scene), (second, other) = avoid.cases()[:2]
    same, differing = render(scene), render(sample_scene(np.random.default_rng(1), kind="turtle", colour="green"))
    images = np.stack([same, same, differing, differing])
    pictures = [Image.fromarray(render(scene)), Image.fromarray(render(other))]
    copied, free = avoid.judge(Oracle.load(), images, ((first, scene), (second, other)), pictures)
    assert copied["both"] == 1 and copied["similarity"] == pytest.approx(1, abs=1e-3) and copied["match"] == 1
    assert free["both"] == 0 and free["similarity"] < 0.8


def test_the_commonest_scene_is_what_is_avoided(tmp_path):
    assert len(avoid.cases()) == 12
    for text, scene in avoid.cases():
        assert text.split()[1] == scene.category and scene.background in text
    arms = [arm for arm in avoid.avoidances() if arm.name in ("plain", "negtome 1.9")]
    rows = run_arms(tmp_path, arms, partial(avoid.run_avoidance, avoid.cases()[:2], 2, "sd", 3, 5.0), 1)
    assert [row["arm"] for row in rows] == ["plain"] * 2 + ["negtome 1.9"] * 2
    pictures = [np.load(tmp_path / f"{arm.name.replace(' ', '-')}.npy") for arm in arms]
    assert pictures[0].shape == (4, 128, 128, 3) and not (pictures[0] == pictures[1]).all()


def test_views_are_counted_by_the_side_that_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(views, "texts", lambda: ("a face on grass",))
    arms = [arm for arm in views.lookings() if arm.name in ("plain", "official 1")]
    rows = run_arms(tmp_path, arms, partial(views.run_looking, 2, "sd", 3, 5.0), 1)
    assert [row["prompt"] for row in rows[:2]] == ["a face on grass, side view", "a face on grass, back view"]
    pictures = [np.load(tmp_path / f"{arm.name.replace(' ', '-')}.npy") for arm in arms]
    assert pictures[0].shape == (4, 128, 128, 3) and not (pictures[0] == pictures[1]).all()
    judged = Oracle.load().judge(pictures[0])
    assert (
        rows[0]["view"] == (judged.view[:2] == "side").mean()
        and rows[1]["front"] == (judged.view[2:] == "front").mean()
    )
    assert "| official 1 |" in views.REPORT.write(rows, tmp_path, {"steps": 3})


def test_tables_for_papers_and_spreadsheets(tmp_path):
    interval = {"mean": 0.5, "low": 0.25, "high": 0.75}
    clear = {"mean": -0.2, "low": -0.3, "high": -0.1, "p": 0.01, "clear": True}
    of_means = {
        "table": [{"arm": "plain", "dominant": interval, "seconds": 1.0}, {"arm": "more_1", "dominant": interval}],
        "differences": [{"arm": "more_1", "dominant": clear}],
    }
    export.save(of_means, tmp_path, "means")
    rows = list(csv.DictReader((tmp_path / "means.csv").open()))
    assert [(row["arm"], row["measure"], row["mean"], row["p (Holm)"]) for row in rows] == [
        ("plain", "dominant", "0.5", ""), ("more_1", "dominant", "0.5", "0.01")
    ]  # fmt: skip
    text = (tmp_path / "means.tex").read_text()
    assert r"more\_1 & 0.50$^*$ {\scriptsize(0.25 to 0.75)} \\" in text and text.count(r"\toprule") == 1
    about = {"measure": "kept", "mean": 0.1, "low": 0.0, "high": 0.2}
    of_splits = {
        "table": [{"arm": "a", "split": split, "kept": interval, "match": None} for split in ("hard", "easy")],
        "differences": [
            {"arm": "a", "split": "hard", "pairs": 5, "p": 0.01, **about},
            {"arm": "a", "split": "easy", "pairs": 6, "p": 0.01, **about},
        ],
    }
    found = export.long_form(of_splits)
    assert [(row["split"], row["difference"], row["clear"]) for row in found] == [
        ("hard", 0.1, False), ("easy", 0.1, True)
    ]  # fmt: skip
    assert export.latex(found).count(r"\begin{tabular}") == 2
