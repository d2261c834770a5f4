"""Where text and image stand inside attention: text does not depend on the noise, the image does; methods at work there."""

from __future__ import annotations

import inspect
from typing import Any

import families
import families_videos as videos
import pytest
import torch
from listeners import Listener, Weigher

from negguide.engine import Unsupported, attach
from negguide.methods import NAG, VSF, NegToMe, Window

TOKENS = {
    "aura_flow": 256,
    "bria": 64,
    "bria_fibo": 64,
    "chroma": 64,
    "cogview3": 64,
    "cogview4": 64,
    "hunyuan_video": 48,
    "krea2": 16,
    "longcat": 64,
    "mochi": 8,
    "qwen_controlnet": 16,
}
"""Image tokens of families whose layers attend to text and image together."""
VSF_REFUSED = {
    "cogvideox": "fixed number of text tokens",
    "bria_fibo": "fixed number of text tokens",
    "prx": "no value projection of text tokens",
    "allegro": r"encoder_hidden_states \(B, L, C\)",
    "hidream": r"encoder_hidden_states \(B, L, C\)",
    "hunyuan_dit": "fixed number of text tokens",
    "lumina2": "each row's text ends somewhere else",
}
PLAIN_FAILS = ("prx",)
"""Stock pipelines that make no two pictures at once."""
HEARD = [*dict.fromkeys((*TOKENS, *VSF_REFUSED)), "animatediff", "ltx", "lumina", "latte"]


def _first_layer(name: str, pipe: Any, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(values of the text, tokens of the image) of the prompt in the first layer that is heard."""
    values: list[torch.Tensor] = []
    listener = Weigher(weigh=lambda event: values.append(event["cond"].clone()) if "cond" in event else None)
    with attach(pipe, listener):
        families.run(name, pipe, steps=2, seed=seed)
    return values[0], next(event["cond"] for event in listener.heard if "cond" in event)


@pytest.mark.parametrize("name", [*TOKENS, "hunyuan_video: single blocks"])
def test_the_text_is_where_nothing_depends_on_the_noise(name: str) -> None:
    if ":" in name:
        name, pipe = "hunyuan_video", videos.hunyuan_video(double=0).to(torch.float32)
        pipe.set_progress_bar_config(disable=True)
    else:
        pipe = families.build(name)
    text, image = _first_layer(name, pipe, 0)
    other_text, other_image = _first_layer(name, pipe, 1)
    assert torch.allclose(text, other_text, atol=1e-6) and text.abs().max() > 0
    assert image.shape[1] == TOKENS[name] and bool(((image - other_image).abs().amax(-1) > 1e-6).all())


@pytest.mark.parametrize(
    ("name", "tokens"), [("lumina2", 4), ("hidream", 64), ("latte", 256), ("hunyuan_dit", 16), ("kandinsky5", 4)]
)
def test_all_that_is_heard_is_the_picture(name: str, tokens: int) -> None:
    """Words do not depend on the noise in the first layer, the picture does, in rows whose texts have other lengths, too."""
    heard: list[list[torch.Tensor]] = []
    for seed in (0, 1):
        listener = Listener()
        with attach(families.build(name), listener):
            families.run(name, prompt=["a pet on grass", "one"], steps=1, seed=10 * seed)
        heard.append([next(event["cond"] for event in listener.heard if "cond" in event)])
    first, second = heard[0][0], heard[1][0]
    assert first.shape[:2] == (2, tokens) and bool(((first - second).abs().amax(-1) > 1e-6).all())


@pytest.mark.parametrize("name", HEARD)
def test_methods_inside_attention_act_and_leave_nothing_behind(name: str) -> None:
    pipe, plain = families.build(name), families.run(name, steps=2)
    with attach(pipe, NAG("cat")):
        assert float((families.run(name, steps=2) - plain).abs().max()) > 1e-4
    if name in VSF_REFUSED:
        with attach(pipe, VSF("cat")), pytest.raises(Unsupported, match=VSF_REFUSED[name]):
            families.run(name, steps=2)
    else:
        with attach(pipe, VSF("cat")):
            assert float((families.run(name, steps=2) - plain).abs().max()) > 1e-4
    if name in PLAIN_FAILS:
        return
    prompts = ["a pet on grass"] * 2
    two = families.run(name, prompt=prompts, steps=2)
    with attach(pipe, NegToMe("all", 0.5, -1.0, Window())):
        assert float((families.run(name, prompt=prompts, steps=2) - two).abs().max()) > 1e-4
    assert torch.equal(families.run(name, steps=2), plain)


def test_several_videos_that_a_pipeline_does_not_make_are_told() -> None:
    assert "num_videos_per_prompt" in inspect.signature(type(families.build("cogvideox")).__call__).parameters
    with attach(families.build("cogvideox"), NegToMe()), pytest.warns(UserWarning, match="makes one per prompt"):
        families.run("cogvideox", steps=1, num_videos_per_prompt=2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "usual"), [("wan", (9.0, 2.5, 0.25)), ("sd15", (3.0, 2.5, 0.5)), ("chroma", (5.0, 2.5, 0.25))]
)
def test_strengths_that_are_not_given_are_those_of_the_family(name: str, usual: tuple[float, float, float]) -> None:
    scale, tau, alpha = usual
    with attach(families.build(name), NAG("cat", scale=scale, tau=tau, alpha=alpha)):
        expected = families.run(name, steps=2)
    with attach(families.build(name), NAG("cat")):
        assert torch.equal(families.run(name, steps=2), expected)
    with attach(families.build(name), NAG("cat", scale=scale + 1)):
        assert not torch.equal(families.run(name, steps=2), expected)
