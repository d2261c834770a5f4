"""The Toybox's watcher: what it is taught is true, what is bundled answers right, and early."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lab.train import half_formed, preview, quiz, watcher, watcher_batches, watcher_card
from lab.train.data import HELD_OUT, Dataset, pairs
from negguide.toybox.load import assets_dir, load_pipeline
from negguide.toybox.oracle_model import HEADS
from negguide.toybox.watcher import load_watcher, watcher_dir
from negguide.toybox.world import bias, render
from negguide.toybox.world.captions import PLURALS
from negguide.watchers import Question, as_watcher
from negguide.watchers.questions import of_prompt
from negguide.watchers.words import phrases

SINGULAR = {plural: kind for kind, plural in PLURALS.items() if plural != kind}


def truth(scene: Any, question: str) -> str:
    """The right answer, read off the scene by the words of the question."""
    words = re.findall(r"[a-z]+", question.lower())
    shown = {scene.kind, scene.category, scene.colour, scene.background, scene.style, *scene.accessories}
    if words[1] == "there":
        thing = [word for word in words[2:] if word not in ("a", "an", "in", "the", "picture")]
        names = {
            SINGULAR.get(word, word[:-1] if word[:-1] in shown | set(bias.CATEGORY_OF) else word) for word in thing
        }
        return "yes" if names <= shown else "no"
    if "wearing" in words:
        return " and ".join(scene.accessories) or "nothing"
    if "made" in words and "of" in words:
        return "unknown"
    if "colour" in words or "color" in words:
        return scene.colour
    if "many" in words:
        return {1: "one", 2: "two"}[scene.count]
    if "place" in words or "where" in words or "background" in words:
        return scene.background
    if "style" in words:
        return scene.style
    return scene.colour if scene.kind in words else scene.kind


def test_the_quiz_is_true() -> None:
    rng = np.random.default_rng(0)
    asked: dict[str, int] = {}
    for scene, _ in pairs(HELD_OUT, 3, 300):
        for question, answer in quiz.quiz(scene, rng, 12):
            assert answer == truth(scene, question), (scene, question)
            asked[answer] = asked.get(answer, 0) + 1
    assert set(bias.CATEGORY_OF) | set(bias.COLOURS) | set(bias.BACKGROUNDS) | {"yes", "no", "unknown"} <= set(asked)
    assert 0.8 < asked["yes"] / asked["no"] < 1.25
    assert all(not phrases(answer) for _, answer in quiz.about_nothing(rng, 40)), "they can become no negative"


def test_every_word_of_the_quiz_is_one_token() -> None:
    rng = np.random.default_rng(1)
    words = watcher.make_words()
    for scene, _ in pairs(HELD_OUT, 4, 100):
        for pair in quiz.quiz(scene, rng, 8) + quiz.about_nothing(rng, 2):
            for text in pair:
                tokens = words.tokenize(text)
                assert tokens == re.findall(r"[a-z]+|[^a-z\s]", text.lower()), "no pieces, nothing unknown"
    assert words.unk_token not in words.tokenize("what kind of zebra is it ?")


def test_the_loss_is_that_of_the_class_itself() -> None:
    torch.manual_seed(0)
    model = watcher.make_watcher().eval()
    asked = [
        ("What is it?", "cat"),
        ("Is there a hat in the picture?", "yes"),
        ("What is it wearing?", "hat and scarf"),
    ]
    pictures = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        loss, right = watcher.answer_loss(model, model.vision_model(pictures).last_hidden_state, asked)
        total, count = 0.0, 0
        for picture, (question, answer) in zip(pictures, asked, strict=True):
            ids, labels = (watcher.make_words()(text, return_tensors="pt").input_ids for text in (question, answer))
            out = model(input_ids=ids, pixel_values=picture[None], labels=labels)
            total, count = total + float(out.loss) * (labels.shape[1] - 1), count + labels.shape[1] - 1
    assert float(loss) == pytest.approx(total / count, rel=1e-4)
    assert 0 <= float(right) <= 1


def test_estimates_come_from_the_pipelines_own_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_formed, "autocast", nullcontext)
    pipe = load_pipeline("sd")
    torch.manual_seed(4)
    clean = torch.randn(2, 8, 16, 16)
    progress = torch.tensor([0.1, 0.8])
    torch.manual_seed(5)
    found = half_formed.estimates(pipe, clean, ["a cat", "a red car"], progress)
    torch.manual_seed(5)
    noise = torch.randn_like(clean)
    for row, (text, share) in enumerate(zip(["a cat", "a red car"], progress.tolist(), strict=True)):
        t = round((1 - share) * 999)
        alpha = float(pipe.scheduler.alphas_cumprod[t])
        noised = alpha**0.5 * clean[row] + (1 - alpha) ** 0.5 * noise[row]
        told, free = pipe.encode_prompt(text, "cpu", 1, True, "")
        with torch.no_grad():
            a, b = (pipe.unet(noised[None], t, words).sample[0] for words in (told, free))
        epsilon = b + 5.0 * (a - b)
        wanted = (noised - (1 - alpha) ** 0.5 * epsilon) / alpha**0.5
        assert (found[row] - wanted).abs().max() < 1e-3 * wanted.abs().max()
    assert (found[1] - clean[1]).abs().mean() < (found[0] - clean[0]).abs().mean()


def some_data(count: int) -> tuple[Dataset, torch.Tensor, half_formed.HalfFormed]:
    drawn = pairs(HELD_OUT, 5, count)
    images = np.stack([render(scene) for scene, _ in drawn])
    latents = torch.randn(count, 8, 16, 16).half()
    half = half_formed.HalfFormed(latents, torch.arange(count), torch.linspace(0, 0.8, count))
    return Dataset(images, [scene for scene, _ in drawn], [text for _, text in drawn]), latents, half


def test_practice_asks_more_of_what_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    scenes = [scene for scene, _ in pairs(HELD_OUT, 6, 300)]
    for practice, low, high in ((None, 0.01, 0.06), (quiz.HARDER, 0.02, 0.09), (quiz.FINER, 0.17, 0.27)):
        asked = [q for scene in scenes for q, _ in quiz.quiz(scene, rng, 7, practice)[1:]]
        assert low < np.mean(["style" in question for question in asked]) < high
    monkeypatch.setattr(watcher_batches, "EMPTIES", 10)
    monkeypatch.setattr(watcher_batches, "show", lambda preview, latents: torch.zeros(len(latents), 64, 64, 3).byte())
    data, latents, half = some_data(200)
    settings = replace(watcher.FINE, batch=60)
    styled: dict[float, list[float]] = {}
    for practice in (quiz.HARDER, quiz.FINER):
        source = watcher_batches.Batches(data, latents, half, None, settings, 0, practice)
        drawn = round(watcher_batches.SHARES[0] * 60)
        for _ in range(8):
            styles = next(source)[2]["style"][watcher_batches.EMPTY : drawn]
            share = (styles != HEADS["style"].index("clean")).float().mean()
            styled.setdefault(practice.styled, []).append(float(share))
    assert np.mean(styled[quiz.FINER.styled]) > 0.4 > 0.3 > np.mean(styled[0.0])


def test_a_short_training_runs_resumes_and_is_written(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher_batches, "EMPTIES", 10)
    data, latents, half = some_data(60)
    short = replace(watcher.SETTINGS, steps=2, batch=12, warmup=1)
    shown = preview.train_preview(data, latents, tmp_path / "preview", replace(preview.SETTINGS, steps=2))
    assert preview.show(shown, latents[:3]).shape == (3, 64, 64, 3)
    watcher.train_watcher(data, latents, half, shown, tmp_path / "answers", short)
    model = watcher.train_watcher(data, latents, half, shown, tmp_path / "answers", replace(short, steps=3))
    state = torch.load(tmp_path / "answers" / "state.pt", weights_only=True)
    assert state["step"] == 3
    before = [
        model.vision_model.encoder.layers[0].mlp.fc1.weight.clone(),
        model.text_decoder.cls.predictions.bias.clone(),
    ]
    fine = replace(watcher.FINE, steps=1, batch=12, warmup=0, ema=0.0)
    watcher.train_reading(model, data, latents, half, shown, tmp_path / "fine", fine, whole=True, practice=quiz.FINER)
    after = [model.vision_model.encoder.layers[0].mlp.fc1.weight, model.text_decoder.cls.predictions.bias]
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True)), "the eye is trained too"
    watcher_card.save_watcher(model, tmp_path / "made")
    found = load_watcher(tmp_path / "made")([Image.fromarray(data.images[0])], [Question("What is it?")])
    assert 0 < found[0][0][0].confidence <= 1
    assert "_name_or_path" not in (tmp_path / "made" / "config.json").read_text()
    preview.save_preview(shown, tmp_path / "tiny")
    assert "_name_or_path" not in (tmp_path / "tiny" / "config.json").read_text()


def test_calibration_error_by_hand() -> None:
    sure = np.array([0.95, 0.95, 0.05, 0.55])
    right = np.array([True, False, False, True])
    wanted = (abs(0.95 * 2 - 1) + 0.05 + 0.45) / 4
    assert watcher_card.calibration_error(sure, right) == pytest.approx(wanted)
    assert watcher_card.calibration_error(np.ones(3), np.ones(3, bool)) == 0


def test_the_bundled_watcher_is_right_about_held_out_renders() -> None:
    drawn = [scene for scene, _ in pairs(HELD_OUT, 9, 120)]
    images = [Image.fromarray(render(scene)) for scene in drawn]
    watch: Any = as_watcher("toybox")
    asked = ["What kind of thing is it?", "What colour is it?", "Is there a hat in the picture?"]
    rows = watch(images, [Question(text) for text in asked])
    said = [[cell[0].text for cell in row] for row in rows]
    right = np.array(said) == np.array([[truth(scene, question) for question in asked] for scene in drawn])
    assert right.mean(0).min() > 0.9, right.mean(0)
    sure = np.array([[cell[0].confidence for cell in row] for row in rows])
    assert sure[right].mean() > sure[~right].mean() + 0.1 or right.all()


def test_a_yes_or_a_no_takes_one_word_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.blip.modeling_blip_text import BlipTextLMHeadModel

    forward, written = BlipTextLMHeadModel.forward, []

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        written.append(1)
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(BlipTextLMHeadModel, "forward", counted)
    picture = Image.fromarray(render(pairs(HELD_OUT, 9, 1)[0][0]))
    for question, wanted in (
        (Question("Is there a hat in the picture?", about="hat"), 1),
        (Question("What is it?"), 2),
    ):
        written.clear()
        load_watcher()([picture], [question])
        assert len(written) == wanted


def test_the_bundled_watcher_is_public_small_and_described() -> None:
    from transformers import AutoModelForVisualQuestionAnswering, AutoProcessor, BlipForQuestionAnswering, BlipProcessor

    assert type(AutoModelForVisualQuestionAnswering.from_pretrained(watcher_dir())) is BlipForQuestionAnswering
    assert isinstance(AutoProcessor.from_pretrained(watcher_dir()), BlipProcessor)
    sizes = [file.stat().st_size for file in watcher_dir().iterdir()]
    assert sum(sizes) < 4_500_000
    card = (watcher_dir() / "README.md").read_text()
    for row in ("kind of a category", "presence", "oracle's kind"):
        assert f"| {row} |" in card
    assert {"preview", "answers"} <= set(json.loads((watcher_dir() / "training.json").read_text()))
    assert (assets_dir() / "toybox" / "sd" / "preview" / "config.json").exists()


def test_it_knows_the_questions_that_prompts_lead_to() -> None:
    scene = next(scene for scene, _ in pairs(HELD_OUT, 9, 200) if scene.kind == "dog" and scene.count == 1)
    (row,) = load_watcher()([Image.fromarray(render(scene))], [*of_prompt("a pet on grass"), *of_prompt("a dog")])
    assert [cell[0].text for cell in row] == ["dog", scene.colour]
