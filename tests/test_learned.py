"""Learned negatives: the fit against a whitened projection, the file, what acts where, and `negguide learn` end to end."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import families
import numpy as np
import pytest
import torch
from learned_files import learned_file
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from negguide import maths
from negguide.cli import main
from negguide.engine import attach
from negguide.learn import PARTS, TEMPLATES, learn
from negguide.methods import LearnedNegative, Method, Window
from negguide.methods.base import Step
from negguide.methods.learned import Learned, Steering
from negguide.methods.state import RunState
from negguide.methods.tokens import Listen, RunContext, Tokens


def _classes(seed: int, count: int = 4000, width: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Tokens with and without a thing, correlated, whose means differ."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(width, width))
    return (
        rng.normal(size=(count, width)) @ mix + rng.normal(size=width) * 0.3,
        rng.normal(size=(count, width)) @ mix + rng.normal(size=width) * 0.3,
    )


def test_the_fit_is_the_projection_in_whitened_coordinates() -> None:
    """Oracle: whiten, take the direction of the means out by an orthogonal projection, go back; in numpy's float64."""
    with_thing, without = _classes(0)
    means = with_thing.mean(0), without.mean(0)
    deviations = np.concatenate([with_thing - means[0], without - means[1]])
    covariance = deviations.T @ deviations / len(deviations)
    values, vectors = np.linalg.eigh(covariance)
    whiten, back = vectors / np.sqrt(values) @ vectors.T, vectors * np.sqrt(values) @ vectors.T
    axis = whiten @ (means[0] - means[1])
    axis /= np.linalg.norm(axis)
    x = with_thing[:200]
    white = (x - means[1]) @ whiten
    amount = np.maximum(white @ axis, 0)[:, None]
    expected = (white - amount * axis) @ back + means[1]

    d, w, b = maths.fit_steering(
        torch.tensor(means[0]), torch.tensor(means[1]), torch.tensor(covariance), shrinkage=0.0
    )
    found = maths.steer(torch.tensor(x)[None].float(), d, w, b, 1.0)[0]
    np.testing.assert_allclose(found.numpy(), expected, rtol=2e-3, atol=2e-3)
    assert (amount == 0).any() and (amount > 0).any(), "both sides of the threshold are tried"


def test_tokens_without_the_thing_stay_bit_for_bit_and_strength_0_changes_none() -> None:
    with_thing, without = (torch.tensor(one).float() for one in _classes(1))
    covariance = torch.cov(torch.cat([with_thing - with_thing.mean(0), without - without.mean(0)]).T)
    d, w, b = maths.fit_steering(with_thing.mean(0), without.mean(0), covariance)
    x = torch.stack([with_thing, without])
    steered = maths.steer(x, d, w, b, 3.0)
    below = x @ w <= b
    assert below.any() and torch.equal(steered[below], x[below]) and not torch.equal(steered[~below], x[~below])
    assert torch.equal(maths.steer(x, d, w, b, 0.0), x)


def test_where_nothing_differs_nothing_is_taken_out() -> None:
    mean = torch.ones(3, 4)
    d, w, b = maths.fit_steering(mean, mean.clone(), torch.eye(4))
    x = torch.randn(1, 50, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(maths.steer(x, d[0], w[0], b[0], 5.0), x)
    d, w, b = maths.fit_steering(mean + 1e-4, mean, torch.eye(4))
    assert float((maths.steer(x, d[0], w[0], b[0], 1.0) - x).abs().max()) < 1e-4


@dataclasses.dataclass(frozen=True, eq=False)
class Hears(Method):
    """Keeps what a layer gave at the first step, by branch."""

    layer: str
    found: dict[Any, Tensor] = dataclasses.field(default_factory=dict)

    def listens(self, step: Step, context: RunContext, state: RunState) -> Listen | None:
        return Listen(lambda layer: layer.name == self.layer) if step.index == 0 else None

    def tokens(self, tokens: Tokens, state: RunState) -> None:
        for branch in tokens.branches:
            self.found[branch] = tokens[branch].clone()


def test_only_the_rows_of_the_prompt_are_steered(tmp_path: Path) -> None:
    """One layer, steered token by token in float64."""
    names = [name for name in Learned.load(learned_file("sd15")).layers if name.endswith("attn2")]
    before, after = Hears(names[0]), Hears(names[0])
    with attach(families.build("sd15"), before):
        families.run("sd15")
    draw = torch.Generator().manual_seed(3)
    cond = before.found["cond"]
    direction, detector = (torch.randn(PARTS, cond.shape[-1], generator=draw) for _ in range(2))
    offset = (cond.flatten(0, 1) @ detector.T).median(0).values
    Learned("cat", ("dog",), "", {names[0]: Steering(direction, detector, offset)}).save(tmp_path / "x.safetensors")
    with attach(families.build("sd15"), LearnedNegative(str(tmp_path / "x.safetensors"), strength=1.5), after):
        families.run("sd15")
    expected = cond.double().clone()
    touched = 0
    for image in range(len(cond)):
        for place, token in enumerate(cond[image].double()):
            excess = float(token @ detector[0].double()) - float(offset[0])
            if excess > 0:
                touched += 1
                expected[image, place] = token - 1.5 * excess * direction[0].double()
    assert 0 < touched < cond.shape[0] * cond.shape[1]
    torch.testing.assert_close(after.found["cond"].double(), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(after.found["uncond"], before.found["uncond"])


@pytest.mark.parametrize("family", ["sd15", "sd3"])
def test_it_costs_no_pass_and_ends_with_its_window(family: str) -> None:
    method = LearnedNegative(learned_file(family), window=Window(0, 0.5))
    with attach(families.build(family), method) as attached:
        families.run(family, steps=4)
    assert attached.passes == 2 * 4
    assert [record.methods for record in attached.trace] == [("learned_negative",)] * 2 + [()] * 2


def test_a_file_of_another_model_is_refused_with_the_remedy() -> None:
    with (
        attach(families.build("sd3"), LearnedNegative(learned_file("sd15"))),
        pytest.raises(ValueError, match="learn it again"),
    ):
        families.run("sd3")


def _file(path: Path, **changes: Any) -> Path:
    tensors = {"a:direction": torch.ones(2, 3), "a:detector": torch.ones(2, 3), "a:offset": torch.ones(2)}
    told = {"format": "1", "kind": "learned negative", "thing": "cat", "instead_of": '["dog"]', "family": "X"}
    for key, value in changes.items():
        (tensors if f"a:{key}" in tensors else told).__setitem__(f"a:{key}" if f"a:{key}" in tensors else key, value)
    save_file(tensors, path, told)
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "lora"}, "holds no learned negative"),
        ({"direction": torch.ones(2, 4)}, "fit together"),
        ({"offset": torch.tensor([0.0, torch.inf])}, "finite"),
        ({"format": "x"}, "format"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Learned.load(_file(tmp_path / "f.safetensors", **changes))


def test_the_file_says_what_it_is_and_comes_back(tmp_path: Path) -> None:
    parts = torch.arange(4.0)
    steering = Steering(torch.randn(4, 3), torch.randn(4, 3), parts)
    Learned("cat", ("dog", "rabbit"), "Flux", {"x.attn": steering}).save(tmp_path / "deep" / "cat.safetensors")
    with safe_open(tmp_path / "deep" / "cat.safetensors", framework="pt") as file:
        told = file.metadata()
    assert told["format"] == "1" and json.loads(told["instead_of"]) == ["dog", "rabbit"]
    back = Learned.load(tmp_path / "deep" / "cat.safetensors")
    assert (back.thing, back.instead_of, back.family) == ("cat", ("dog", "rabbit"), "Flux")
    assert all(torch.equal(a, b) for a, b in zip(back.layers["x.attn"], steering, strict=True))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["cat.safetensors"]
    with pytest.raises(FileNotFoundError, match="negguide learn"):
        Learned.load(tmp_path / "absent.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"x" * 50)
    with pytest.raises(ValueError, match="damaged"):
        Learned.load(tmp_path / "bad.safetensors")


def test_learn_asks_for_each_template_with_and_without_from_the_same_noise() -> None:
    pipe = families.build("sd15")
    arguments = families.arguments("sd15")
    call = {key: arguments[key] for key in ("height", "width", "num_inference_steps") if key in arguments}
    asked: list[Any] = []

    told: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        before = pipe.encode_prompt

        def spied(prompt: Any, *args: Any, **more: Any) -> Any:
            asked.append(prompt)
            return before(prompt, *args, **more)

        patch.setattr(pipe, "encode_prompt", spied)
        made = learn(
            pipe, "apple", ["cat", "dog"], ["a {}", "a red {}", "one {}"], "text", batch=2, tell=told.append, **call
        )
    texts = [text for prompt in asked for text in (prompt if isinstance(prompt, list) else [prompt])]
    assert {"an apple", "a red apple", "one apple", "a cat", "a red dog", "one cat"} <= set(texts)
    assert told == [2, 1, 2, 1]
    assert made.layers and all("attn2" in name for name in made.layers), "text: cross layers alone"
    assert all(steering.parts == PARTS for steering in made.layers.values())


def test_learn_refuses_what_cannot_be_learnt() -> None:
    pipe = families.build("sd15")
    with pytest.raises(ValueError, match="no gap"):
        learn(pipe, "cat", ["dog"], ["a cat"])
    with pytest.raises(ValueError, match="stand in its place"):
        learn(pipe, "cat", [])
    assert len(TEMPLATES) == len(set(TEMPLATES)) == 50


def test_the_command_learns_and_what_it_wrote_acts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a {}\na {} on grass\n\n")
    file = tmp_path / "cat.safetensors"
    words = ["learn", "cat", "--anchor", "dog", "--prompts", str(prompts), "--steps", "2", "-o", str(file)]
    assert main(words) == 0
    assert "14 layers of Stable Diffusion 1/2" in capsys.readouterr().out
    out = tmp_path / "out"
    arms = f"plain,learned_negative:file={file}"
    assert main(["compare", "a pet", "-m", arms, "--seeds", "0", "--steps", "2", "--out", str(out)]) == 0
    (results,) = out.rglob("results.json")
    pictures = sorted(out.rglob("*.png"))
    assert results.exists() and len({picture.read_bytes() for picture in pictures}) == len(pictures) >= 2
    assert main(["learn", "cat", "--anchor", "dog", "--where", "none"]) == 2
    assert "possible: all, text" in capsys.readouterr().err
