"""The node pack's adaptive negatives, their timeline and its measures, in a stand-in for ComfyUI."""

from __future__ import annotations

import itertools
from typing import Any

import comfy_standin as comfy
import pytest
import torch
from comfy_standin import SIGMAS, calc_cond_batch, convert_cond, noise, patcher, sample, text
from torch import Tensor


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Any:
    return comfy.installed(monkeypatch)


class Clip:
    """A conditioning of its own for each text."""

    def tokenize(self, words: str) -> str:
        return words

    def encode_from_tokens_scheduled(self, words: str) -> Any:
        return text(sum(map(ord, words)))


class Vae:
    """Pictures whose green is 1 where the first latent, as ComfyUI hands it out, is above 0 on the whole."""

    def decode(self, latents: Tensor) -> Tensor:
        pictures = torch.zeros(len(latents), 8, 8, 3)
        pictures[..., 1] = (latents[:, 0].mean((1, 2)) > 0).float().view(-1, 1, 1)
        return pictures


def watcher(images: Any, questions: Any) -> Any:
    """What it sees is the colour of the picture."""
    return [["frog" if picture.getpixel((0, 0))[1] else "crow" for _ in questions] for picture in images]


def adaptive(nodes: Any, model: Any, **more: Any) -> tuple[Any, Any]:
    about = {one.id: one.about.get("default") for one in nodes.AdaptiveNode.GET_SCHEMA().inputs}
    given = {**about, "watcher": watcher, "clip": Clip(), "vae": Vae(), "prompt": "a pet", "looks": 3, **more}
    return nodes.AdaptiveNode.execute(**{**given, "model": model}).args


def by_hand(x: Tensor, looks: set[int]) -> tuple[Tensor, list[tuple[str, ...]]]:
    """Euler for one picture: what was seen after a step is the negative prompt from the next one on."""
    model, seen, timeline = patcher().model, [], []
    x = x * SIGMAS[0]
    for at, (sigma, following) in enumerate(itertools.pairwise(SIGMAS)):
        negative = text(sum(map(ord, ", ".join(seen)))) if seen else text(2)
        cond, base = calc_cond_batch(model, [convert_cond(c) for c in (text(1), negative)], x, sigma.expand(1), {})
        denoised = base + 4 * (cond - base)
        if at in looks:
            new = "frog" if denoised[:, 0].mean() > 0 else "crow"
            seen += [] if new in seen else [new]
            timeline.append(tuple(seen))
        x = x + (x - denoised) / sigma * (following - sigma)
    return x, timeline


def test_what_is_seen_is_the_pictures_own_negative_from_the_next_step_on(nodes: Any) -> None:
    model, timeline = adaptive(nodes, patcher())
    together = sample(model, noise())
    looked = {note["looked_at"] for note in timeline.notes}
    assert len(looked) == 2  # of five steps, two bear a look with these marks
    shown, notes = timeline.text(), timeline.notes
    for at, one in enumerate(noise().split(1)):
        expected, seen = by_hand(one, looked)
        assert torch.allclose(together[at], expected[0], rtol=1e-4, atol=1e-4)
        assert f"picture {at}: " in shown and [tuple(n["images"][at]["negatives"]) for n in notes] == seen
        assert torch.allclose(sample(model, one)[0], together[at], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(together, sample(patcher(), noise()), atol=1e-2)


def test_the_timeline_is_that_of_the_last_run(nodes: Any) -> None:
    model, timeline = adaptive(nodes, patcher())
    sample(model, noise(3))
    sample(model, noise(2))
    words, pictures = nodes.TimelineNode.execute(timeline, after=None).args
    assert words.count("picture 1") == 2 and "picture 2" not in words
    assert pictures.shape == (2, 8, 16, 3) and pictures.max() == 1


@pytest.mark.parametrize("more", [{"weight": 0.0}, {"looks": 0}])
def test_where_nobody_looks_it_is_the_stock_sampler_bit_for_bit(nodes: Any, more: dict[str, Any]) -> None:
    model, timeline = adaptive(nodes, patcher(), **more)
    assert torch.equal(sample(model, noise()), sample(patcher(), noise()))
    assert "nobody looked" in timeline.text() and timeline.pictures().shape == (1, 1, 1, 3)


def test_a_guard_acts_on_what_it_watches_for_only(nodes: Any) -> None:
    def sees_hats(images: Any, questions: Any) -> Any:
        return [["yes" if question.about == "hat" else "no" for question in questions] for _ in images]

    model, timeline = adaptive(nodes, patcher(), policy="guard", watch="hat, crown", watcher=sees_hats)
    assert not torch.allclose(sample(model, noise()), sample(patcher(), noise()), atol=1e-3)
    assert "away from hat" in timeline.text() and "crown" not in timeline.text()
    unseen, _ = adaptive(nodes, patcher(), policy="guard", watch="crown", watcher=sees_hats)
    assert torch.equal(sample(unseen, noise()), sample(patcher(), noise()))
    with pytest.raises(ValueError, match="needs the list of what to watch for"):
        adaptive(nodes, patcher(), policy="guard")


def test_measures_are_those_of_the_metrics(nodes: Any) -> None:
    (same,) = [torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(0)).repeat(3, 1, 1, 1)]
    words, vendi, similarity, score, presence = nodes.MeasureNode.execute(same, "a pet", "cat, hat", "toybox").args
    assert vendi == pytest.approx(1, abs=1e-4) and similarity == pytest.approx(1, abs=1e-4)
    assert -1 <= score <= 1 and 0 <= presence <= 1 and "presence of hat: " in words
    _, vendi, _, score, _ = nodes.MeasureNode.execute(torch.rand(3, 16, 16, 3), "", "", "pixels").args
    assert 1 < vendi <= 3 and score != score
    with pytest.raises(ValueError, match="pixels know no words"):
        nodes.MeasureNode.execute(same, "a pet", "", "pixels")


def test_a_watcher_is_found_by_its_name(nodes: Any) -> None:
    from negguide.watchers.registry import as_watcher

    assert nodes.WatcherNode.execute("toybox").args[0] == as_watcher("toybox")
    with pytest.raises(ValueError, match="no watcher is called"):
        nodes.WatcherNode.execute("nobody")
