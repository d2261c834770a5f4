"""What is remembered of earlier calls holds only while the front end says the same: each way of going stale."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import families
import pytest
import torch

from negguide.engine import attach
from negguide.methods import Denoised, Method, Negative, NegativePrompt, PerpNeg, Window

PROMPT = "a pet on grass"


@dataclasses.dataclass(frozen=True)
class Levels(Method):
    """Keeps the noise level of every step."""

    seen: list[float] = dataclasses.field(default_factory=list)
    needs_guidance = False

    def denoised(self, event: Denoised, state: dict[str, Any]) -> None:
        self.seen.append(event.step.sigma)


def fresh(name: str) -> Any:
    """A pipeline with parts of its own, of which nothing is remembered."""
    return copy.deepcopy(families.build(name))


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found.float() - wanted.float()).abs().max() / wanted.float().abs().max())


def other_encoder(pipe: Any) -> None:
    pipe.text_encoder = copy.deepcopy(pipe.text_encoder)
    weights_in_place(pipe)


def weights_in_place(pipe: Any) -> None:
    with torch.no_grad():
        for parameter in pipe.text_encoder.parameters():
            parameter.mul_(1.5)


def weights_through_data(pipe: Any) -> None:
    """Seen by no counter of versions, and not by the embeddings of words."""
    words = pipe.text_encoder.get_input_embeddings().weight
    for parameter in pipe.text_encoder.parameters():
        if parameter is not words:
            parameter.data.mul_(1.5)


def a_word_of_the_negative(pipe: Any) -> None:
    """The embedding of a token that the prompt does not hold: the prompt's own conditioning does not tell."""
    tokens = set(pipe.tokenizer("cat").input_ids) - set(pipe.tokenizer(PROMPT).input_ids)
    pipe.text_encoder.get_input_embeddings().weight.data[sorted(tokens)] *= -1.0


def a_tokenizer_that_reads_the_negative_otherwise(pipe: Any) -> None:
    cls = type(pipe.tokenizer)

    def call(self: Any, text: Any, *args: Any, **kwargs: Any) -> Any:
        read = text.replace("c", "z") if isinstance(text, str) else [one.replace("c", "z") for one in text]
        return cls.__call__(self, read, *args, **kwargs)

    pipe.tokenizer.__class__ = type(cls.__name__, (cls,), {"__call__": call})


def another_tokenizer(pipe: Any) -> None:
    pipe.tokenizer = copy.deepcopy(pipe.tokenizer)
    a_tokenizer_that_reads_the_negative_otherwise(pipe)


def a_longer_text(pipe: Any) -> None:
    pipe.tokenizer.model_max_length = 20


CHANGES: tuple[Callable[[Any], None], ...] = (
    other_encoder,
    weights_in_place,
    weights_through_data,
    a_word_of_the_negative,
    a_tokenizer_that_reads_the_negative_otherwise,
    another_tokenizer,
    a_longer_text,
)


@pytest.mark.parametrize(
    ("family", "change"),
    # The encoder with the fixed length gives Flux no more than a pooled vector.
    [
        (family, change)
        for family in ("sd15", "flux")
        for change in CHANGES
        if (family, change) != ("flux", a_longer_text)
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_what_the_front_end_says_now_counts(family: str, change: Callable[[Any], None]) -> None:
    """The pipeline's own negative prompt, made by the pipeline alone, is the oracle."""
    pipe = fresh(family)
    with attach(pipe, NegativePrompt("cat")) as attached:
        before = families.run(family, pipe, steps=2)
        change(pipe)
        found = families.run(family, pipe, steps=2)
        assert [record.passes for record in attached.trace] == [2, 2]
    wanted = families.run(family, pipe, steps=2, negative_prompt="cat")
    assert error(found, wanted) < 1e-5
    assert error(before, wanted) > 1e-4, "the change is one that shows"


def test_a_compiled_encoder_is_looked_at_through_what_it_says() -> None:
    pipe = fresh("sd15")
    pipe.text_encoder = torch.compile(pipe.text_encoder, backend="eager")
    with attach(pipe, NegativePrompt("cat")):
        before = families.run("sd15", pipe, steps=2)
        weights_through_data(pipe)
        found = families.run("sd15", pipe, steps=2)
    wanted = families.run("sd15", pipe, steps=2, negative_prompt="cat")
    assert error(found, wanted) < 1e-5 < 1e-4 < error(before, wanted)


@pytest.mark.parametrize("first", [True, False])
def test_a_plan_made_under_autocast_is_none_without(first: bool) -> None:
    pipe = fresh("sd15")

    def run(autocast: bool, **more: Any) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
            return families.run("sd15", pipe, steps=2, **more)

    with attach(pipe, NegativePrompt("cat")):
        run(first)
        found = run(not first)
    assert error(found, run(not first, negative_prompt="cat")) < 1e-5


@pytest.mark.parametrize("family", ["sd15", "flux"])
@pytest.mark.parametrize("of", ["all texts", "the negative place"])
def test_an_encode_prompt_that_reads_a_state_of_the_pipeline(family: str, of: str) -> None:
    """In sequential guidance what stands in the negative place shows at the second denoiser call only."""
    pipe = fresh(family)
    cls = type(pipe)
    changed = {"sd15": (slice(0, 2) if of == "all texts" else slice(1, 2)), "flux": slice(0, 1)}[family]

    def encode_prompt(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = list(cls.encode_prompt(self, *args, **kwargs))
        prompt = args[0] if args else kwargs["prompt"]
        if family == "sd15" or of == "all texts" or prompt != PROMPT:
            found[changed] = [part * self._tone for part in found[changed]]
        return tuple(found)

    pipe.__class__ = type(cls.__name__, (cls,), {"encode_prompt": encode_prompt, "__module__": cls.__module__})
    pipe._tone = 1.0
    calls: list[int] = []
    pipe.text_encoder.register_forward_hook(lambda *_: calls.append(1))
    with attach(pipe, NegativePrompt("cat")) as attached:
        before = families.run(family, pipe, steps=2)
        pipe._tone = 1.5
        calls.clear()
        found = families.run(family, pipe, steps=2)
        assert len(calls) == 3, (
            "the prompt, what stands there, the negative: a run that begins again encodes none twice"
        )
        assert len(attached.trace) == 2
    wanted = families.run(family, pipe, steps=2, negative_prompt="cat")
    assert error(found, wanted) < 1e-5 < 1e-4 < error(before, wanted)


def test_a_run_that_begins_again_starts_from_the_same_noise() -> None:
    pipe = fresh("sd15")
    given = torch.Generator().manual_seed(5)
    with attach(pipe, NegativePrompt("cat")):
        families.run("sd15", pipe, steps=2)
        weights_in_place(pipe)
        found = families.run("sd15", pipe, steps=2, generator=given)
        torch.manual_seed(5)
        weights_in_place(pipe)
        drawn = families.run("sd15", pipe, steps=2, generator=None)
        after = torch.rand(1)
    torch.manual_seed(5)
    wanted = families.run("sd15", pipe, steps=2, generator=None, negative_prompt="cat")
    assert error(drawn, wanted) < 1e-5 and torch.equal(after, torch.rand(1))
    other = torch.Generator().manual_seed(5)
    families.run("sd15", pipe, steps=2, generator=other)
    assert torch.equal(given.get_state(), other.get_state())
    assert error(found, wanted) > 1e-4, "its weights were others"


def shifted(pipe: Any) -> None:
    pipe.scheduler.set_shift(9.0)


def exchanged(pipe: Any) -> None:
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, shift=5.0)


def reconfigured(pipe: Any) -> None:
    pipe.scheduler.register_to_config(invert_sigmas=False, use_karras_sigmas=True)


def other_levels(pipe: Any) -> None:
    """What no configuration tells."""
    real = pipe.scheduler.set_timesteps

    def set_timesteps(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        pipe.scheduler.sigmas = pipe.scheduler.sigmas**2
        pipe.scheduler.timesteps = pipe.scheduler.sigmas[:-1] * 1000

    pipe.scheduler.set_timesteps = set_timesteps


@pytest.mark.parametrize(
    ("family", "change"),
    [("sd3", shifted), ("sd3", exchanged), ("sd3", reconfigured), ("sd3", other_levels), ("flux", reconfigured)],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_the_schedule_is_that_of_the_scheduler_as_it_is_now(family: str, change: Callable[[Any], None]) -> None:
    pipe, levels = fresh(family), Levels()
    window = PerpNeg(Negative("cat", window=Window(1.0, 0.8, "sigma")))
    with attach(pipe, levels, window) as attached:
        families.run(family, pipe, steps=6)
        before = list(levels.seen)
        levels.seen.clear()
        change(pipe)
        families.run(family, pipe, steps=6)
        open_at = [record.index for record in attached.trace if record.conditions]
    real = [float(sigma) for sigma in pipe.scheduler.sigmas[:6]]
    assert levels.seen == pytest.approx(real, abs=1e-6) and before != pytest.approx(real, abs=1e-3)
    assert open_at == [at for at, sigma in enumerate(real) if 1.0 >= sigma > 0.8]
