"""Watchers: the protocol and its forms, names and JSON, CLIP on the Toybox, transformers' classes on tiny models."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_watchers
import torch
from PIL import Image

from negguide.watchers import (
    Answer,
    ImageTextToText,
    Question,
    VisualQuestionAnswering,
    ZeroShot,
    as_watcher,
    register_watcher,
)
from negguide.watchers.asking import Look
from negguide.watchers.generation import greedy, read
from negguide.watchers.protocol import as_answers

KIND = Question("what kind of pet is it ?")
HAT = Question("is there a hat in the picture ?", about="hat")


def pictures(count: int = 3) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)) for _ in range(count)]


def test_answers_come_in_many_forms() -> None:
    one = ((Answer("cat", 0.5),),)
    assert as_answers([("cat", 0.5)], 1, 1) == (one,)
    assert as_answers([[{"answer": "cat", "score": 0.5}]], 1, 1) == (one,)
    assert as_answers(["cat", None], 2, 1) == (((Answer("cat"),),), ((),))
    assert as_answers([[["cat", ("dog", 1)], ""]], 1, 2) == (((Answer("cat"), Answer("dog", 1.0)), (Answer(""),)),)
    for wrong in ("cat", None, ["cat"], [["cat"], ["dog"], ["bird"]]):
        with pytest.raises(ValueError, match="2 row"):
            as_answers(wrong, 2, 1)
    with pytest.raises(ValueError, match="2 answer"):
        as_answers([["cat"]], 1, 2)
    with pytest.raises(ValueError, match="possible: a text"):
        as_answers([[3.0]], 1, 1)


def test_names_and_json() -> None:
    assert as_watcher("toybox") == VisualQuestionAnswering("toybox")
    assert as_watcher("clip") == as_watcher("clip:toybox") == ZeroShot("toybox")
    assert as_watcher("vqa:some/model") == VisualQuestionAnswering("some/model")
    assert as_watcher("chat:some/model") == ImageTextToText("some/model")
    for watcher in (
        ZeroShot("a/b", {"pet": ["cat", "dog"]}, top=2),
        ZeroShot("a/b", ["cat"]),
        VisualQuestionAnswering("x", dtype="float16"),
        ImageTextToText("x", device="cpu"),
    ):
        assert as_watcher(watcher.to_dict()) == watcher
    function: Any = lambda images, questions: ["cat"] * len(images)  # noqa: E731
    register_watcher("mine", function)
    assert as_watcher("mine") is function and as_watcher(function) is function
    for wrong, message in (
        ("cliip", "no watcher is called 'cliip'; possible: 'toybox'"),
        ({"watcher": "clip", "modell": "x"}, "has no modell; possible: model"),
        ({"model": "x"}, "the key 'watcher'"),
    ):
        with pytest.raises(ValueError, match=message):
            as_watcher(wrong)
    with pytest.raises(TypeError, match="an instance is meant"):
        as_watcher(ZeroShot)
    with pytest.raises(ValueError, match="without a colon"):
        register_watcher("vqa:mine", function)
    with pytest.raises(ValueError, match="bfloat16"):
        ImageTextToText("x", dtype="half")
    with pytest.raises(ValueError, match="cannot be loaded"):
        VisualQuestionAnswering("/nowhere/at/all")(pictures(1), [KIND])


def test_clip_names_what_the_toybox_shows() -> None:
    from negguide.toybox.world import render, sample_scene

    rng = np.random.default_rng(7)
    scenes = [scene for scene in (sample_scene(rng, named=True) for _ in range(250)) if scene.category == "pet"]
    scenes = [scene for scene in scenes if scene.count == 1][:24]
    images = [Image.fromarray(render(scene)) for scene in scenes]
    found = ZeroShot()(
        images, [Question("What kind of pet is it?"), Question("?", "cat"), Question("?", None, ("car", "pet"))]
    )
    kinds = [row[0][0].text for row in found]
    assert np.mean([kind == scene.kind for kind, scene in zip(kinds, scenes, strict=True)]) > 0.85
    assert set(kinds) <= {"cat", "dog", "rabbit", "bird", "turtle"}
    present = [row[1][0].text == "yes" for row in found]
    assert np.mean([said == (scene.kind == "cat") for said, scene in zip(present, scenes, strict=True)]) > 0.8
    assert {row[2][0].text for row in found} <= {"car", "pet"}
    assert all(0.0 <= answer.confidence <= 1.0 for row in found for cell in row for answer in cell)
    assert [len(row[0]) for row in ZeroShot(top=2)(images[:2], [Question("What pet?")])] == [2, 2]
    with pytest.raises(ValueError, match="vocabulary"):
        ZeroShot("a/b", {"pet": []})


CHATS = (tiny_watchers.llava, tiny_watchers.idefics3, tiny_watchers.qwen)


@pytest.mark.parametrize("make", [tiny_watchers.vilt, tiny_watchers.blip, *CHATS])
def test_transformers_watchers(make: Any, tmp_path: Path) -> None:
    folder, images = make(tmp_path / make.__name__), pictures()
    watcher: Any
    if make in CHATS:
        watcher = ImageTextToText(folder, batch=2, max_new_tokens=4)
    else:
        watcher = VisualQuestionAnswering(folder, batch=2, max_new_tokens=4)
    found = as_answers(watcher(images, [KIND, HAT]), 3, 2)
    again = as_answers(watcher(images, [KIND, HAT]), 3, 2)
    assert [[[a.text for a in cell] for cell in row] for row in again] == [
        [[a.text for a in cell] for cell in row] for row in found
    ]
    for row, image in zip(found, images, strict=True):
        ((alone,),) = as_answers(watcher([image], [KIND]), 1, 1)
        assert [answer.text for answer in alone] == [answer.text for answer in row[0]]
        assert [answer.confidence for answer in alone] == pytest.approx([a.confidence for a in row[0]], rel=1e-4)
        assert all(answer.confidence is not None and 0 < answer.confidence <= 1 for cell in row for answer in cell)


def test_blip_looks_once_and_answers_as_its_own_generate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    folder, images = tiny_watchers.blip(tmp_path / "b"), pictures()
    questions = [KIND, HAT, Question("cat ?"), Question("what kind of cat is it ?")]
    model = transformers.BlipForQuestionAnswering.from_pretrained(folder).eval()
    processor = transformers.BlipProcessor.from_pretrained(folder)
    seen: list[int] = []
    look = transformers.BlipVisionModel.forward

    def counted(self: Any, pixel_values: Any, **options: Any) -> Any:
        seen.append(len(pixel_values))
        return look(self, pixel_values, **options)

    monkeypatch.setattr(transformers.BlipVisionModel, "forward", counted)
    found = VisualQuestionAnswering(folder, batch=2, max_new_tokens=5)(images, questions)
    assert seen == [2, 1], "one glance at each batch, however many questions"
    for image, row in zip(images, found, strict=True):
        for question, (answer,) in zip(questions, row, strict=True):
            inputs = processor(images=image, text=question.text, return_tensors="pt")
            wanted = model.generate(**inputs, max_new_tokens=5, do_sample=False)[0]
            logits = model.text_decoder(
                input_ids=wanted[None, :-1],
                encoder_hidden_states=model.text_encoder(
                    inputs["input_ids"],
                    encoder_hidden_states=model.vision_model(inputs["pixel_values"]).last_hidden_state,
                ).last_hidden_state,
            ).logits[0]
            shares = [float(row.double().softmax(0)[token]) for row, token in zip(logits, wanted[1:], strict=True)]
            special = [
                place for place, token in enumerate(wanted[1:].tolist()) if token in processor.tokenizer.all_special_ids
            ]
            first, shares = shares[:1], shares[: special[0]] if special else shares
            assert answer.text == processor.decode(wanted[1:][: len(shares)], skip_special_tokens=True)
            assert answer.confidence == pytest.approx(np.exp(np.mean(np.log(shares or first))), rel=1e-3)


def test_what_is_written_to_a_question_of_yes_or_no_ends_with_that_word() -> None:
    wanted = {0: [5, 6, 3], 1: [4, 6, 3], 2: [6, 4, 3]}

    def logits(tokens: torch.Tensor) -> torch.Tensor:
        at = tokens.shape[1] - 1
        found = torch.zeros(len(tokens), tokens.shape[1], 8)
        for row in range(len(tokens)):
            found[row, -1, wanted[row][at]] = 5.0
        return found

    begin = torch.full((3, 1), 7)
    assert greedy(logits, begin, (3, 4, 5), 8).sequences.tolist() == [[7, 5, 3], [7, 4, 3], [7, 6, 4]]
    assert greedy(logits, begin[:2], (3, 4, 5), 8).sequences.tolist() == [[7, 5], [7, 4]]
    assert greedy(logits, begin, (3,), 8).sequences.tolist() == [[7, 5, 6, 3], [7, 4, 6, 3], [7, 6, 4, 3]]


def test_vilt_gives_its_best_labels(tmp_path: Path) -> None:
    import transformers

    folder, image = tiny_watchers.vilt(tmp_path / "v"), pictures(1)[0]
    (((first, second),),) = as_answers(VisualQuestionAnswering(folder, top=2)([image], [KIND]), 1, 1)
    model = transformers.ViltForQuestionAnswering.from_pretrained(folder).eval()
    inputs = transformers.ViltProcessor.from_pretrained(folder)(image, KIND.text, return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits[0].double()
    order = sorted(range(3), key=lambda at: -float(logits[at]))
    assert [first.text, second.text] == [model.config.id2label[at] for at in order[:2]]
    assert first.confidence == pytest.approx(1 / (1 + float(torch.exp(-logits[order[0]]))), rel=1e-4)


def test_generated_texts_end_at_the_first_mark() -> None:
    class Tokenizer:
        all_special_ids = (0, 3)

        def batch_decode(self, ids: list[list[int]], skip_special_tokens: bool) -> list[str]:
            return [" ".join(map(str, row)) for row in ids]

    class Output:
        sequences = torch.tensor([[9, 5, 6, 3, 0], [9, 7, 3, 8, 8], [9, 3, 3, 3, 3]])
        scores: Any = ()

    for step, probability in enumerate((0.5, 0.8, 0.4, 0.1)):
        rest = torch.full((3, 10), (1 - probability) / 9)
        Output.scores += (rest.scatter(1, Output.sequences[:, 1 + step, None], probability).log(),)
    first, second, nothing = read(Output(), Tokenizer())
    assert (first.text, second.text, nothing.text) == ("5 6", "7", "")
    assert first.confidence == pytest.approx((0.5 * 0.8) ** (1 / 2), rel=1e-5)
    assert second.confidence == pytest.approx(0.5, rel=1e-5) == nothing.confidence


def test_processors_without_a_chat_template_teach(tmp_path: Path) -> None:
    folder = Path(tiny_watchers.llava(tmp_path / "l"))
    for name in ("chat_template.jinja", "chat_template.json"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(ValueError, match="no chat template"):
        ImageTextToText(str(folder))(pictures(1), [KIND])


def test_pictures_with_equal_questions_share_a_call() -> None:
    calls = []

    def watcher(images: Any, questions: Any) -> Any:
        calls.append((len(images), len(questions)))
        return [["x"] * len(questions)] * len(images)

    found = Look(watcher, pictures(3), [(KIND,), (KIND, HAT), (KIND,)]).outcome()
    assert calls == [(2, 1), (1, 2)] and [len(row) for row in found.answers] == [1, 2, 1]


def test_failures_and_delays_are_told_not_raised() -> None:
    def broken(images: Any, questions: Any) -> Any:
        raise RuntimeError("no memory\nmore")

    assert Look(broken, pictures(1), [(KIND,)]).outcome().error == "RuntimeError: no memory"
    assert "1 row" in str(Look(lambda i, q: [], pictures(1), [(KIND,)]).outcome().error)
    gate = threading.Event()
    look = Look(lambda i, q: gate.wait() and ["x"], pictures(1), [(KIND,)], threading.Lock())
    assert "within 0.05 s" in str(look.outcome(0.05).error) and look.is_running
    gate.set()
    look._thread.join()  # type: ignore[union-attr]
    assert "within" in str(look.outcome(5.0).error), "late stays late"


def test_watchers_do_not_disturb_the_sampler() -> None:
    def dicing(images: Any, questions: Any) -> Any:
        torch.rand(10)
        assert not torch.is_grad_enabled()
        return ["x"]

    torch.manual_seed(3)
    assert Look(dicing, pictures(1), [(KIND,)]).outcome().error is None
    first = torch.rand(4)
    torch.manual_seed(3)
    assert torch.equal(first, torch.rand(4))
    assert Look(dicing, pictures(1), [(KIND,)], threading.Lock()).outcome().error is None
