"""The contract of every method on every family; a method is one row in `METHODS`, a family one row in `families`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import families
import pytest
import torch
from learned_files import learned_file
from PIL import Image
from twins import SPOILT

from negguide.engine import Unsupported, attach
from negguide.methods import (
    APG,
    CADS,
    NAG,
    SPELL,
    VSF,
    AdaptiveNegatives,
    CFGZeroStar,
    ContrastiveNegative,
    DynamicNegative,
    Interval,
    LearnedNegative,
    Method,
    Negative,
    NegativeModel,
    NegativePrompt,
    NegToMe,
    ParticleGuidance,
    PerpNeg,
    Recommended,
    Rescale,
    SeedVariance,
    Window,
    from_json,
    to_json,
)
from negguide.methods import METHODS as REGISTERED
from negguide.watchers import register_watcher


@dataclasses.dataclass(frozen=True)
class Row:
    """A method under contract: at work, and with settings that must change nothing (None: it has none)."""

    active: Callable[[], Method]
    neutral: Callable[[], Method] | None
    passes: float
    """Of each step, at work."""
    images: int = 1
    """Per prompt. Methods that couple the images of a prompt are held to: its images in a batch equal its images alone."""
    refuses: tuple[str, ...] = ()
    """Families that it cannot work on, and says so."""
    of_family: Callable[[str], Method] | None = None
    """At work on a family, for methods that were learnt on it; `active` is then that of "sd15"."""

    def on(self, family: str) -> Method:
        """The method at work on a family."""
        return self.active() if self.of_family is None else self.of_family(family)


register_watcher("always_cat", lambda images, questions: [["cat"] * len(questions)] * len(images))
OFF = Negative("cat", 0.0)
NEVER = Negative("cat", window=Window(0.5, 0.5))
METHODS: dict[str, Row] = {
    "perp_neg": Row(lambda: PerpNeg(["cat", Negative("hat", 0.6)]), lambda: PerpNeg([OFF, NEVER]), 4),
    "negative_prompt": Row(lambda: NegativePrompt(["cat"]), lambda: NegativePrompt([OFF, NEVER]), 2),
    "signed": Row(
        lambda: NegativePrompt(["cat"], mode="signed"), lambda: NegativePrompt([OFF, NEVER], mode="signed"), 3
    ),
    "contrastive": Row(lambda: ContrastiveNegative(["cat"]), lambda: ContrastiveNegative([OFF, NEVER]), 3),
    "dynamic": Row(lambda: DynamicNegative(["cat"]), lambda: DynamicNegative([OFF, NEVER]), 3),
    "negtome": Row(lambda: NegToMe("all", 0.2, 0.3, Window()), lambda: NegToMe("all", alpha=0.0), 2, images=2),
    "nag": Row(lambda: NAG(["cat"]), lambda: NAG([OFF, NEVER]), 3),
    "recommended": Row(lambda: Recommended(["cat"]), lambda: Recommended([OFF, NEVER]), 3),
    "learned_negative": Row(
        lambda: LearnedNegative(learned_file("sd15")),
        lambda: LearnedNegative("absent.safetensors", strength=0.0),
        2,
        of_family=lambda family: LearnedNegative(learned_file(family)),
    ),
    "vsf": Row(lambda: VSF(["cat"]), lambda: VSF([OFF, NEVER]), 2, refuses=("zimage",)),
    "spell": Row(lambda: SPELL(6.0), lambda: SPELL(0.0), 2, images=2),
    "particle_guidance": Row(lambda: ParticleGuidance(0.3), lambda: ParticleGuidance(0.0), 2, images=2),
    "cads": Row(CADS, lambda: CADS(0.0), 2, refuses=("zimage",)),
    "seed_variance": Row(SeedVariance, lambda: SeedVariance(0.0), 2, refuses=("zimage",)),
    "adaptive": Row(
        lambda: AdaptiveNegatives("always_cat"),
        lambda: AdaptiveNegatives("always_cat", weight=0.0),
        2,
    ),
    "distinct": Row(
        lambda: AdaptiveNegatives("always_cat", "distinct", kind="perp_neg"),
        lambda: AdaptiveNegatives("always_cat", "distinct", weight=0.0),
        3,
        images=2,
    ),
    "apg": Row(APG, None, 2),
    "negative_model": Row(
        lambda: NegativeModel(model=SPOILT),
        lambda: NegativeModel(model=SPOILT, window=NEVER.window),
        2,
    ),
    "cfg_zero_star": Row(CFGZeroStar, None, 2),
    "rescale": Row(lambda: Rescale(0.7), lambda: Rescale(0.0), 2),
    "interval": Row(lambda: Interval(Window(0.0, 0.5)), lambda: Interval(Window()), 2),
}
PIPELINES = list(families.FAMILIES)
MATCHED = {"sana": 0.1}
"""Its tiny tokens (8 numbers) are all alike, so that rounding decides which of them match best."""


def test_every_registered_method_is_under_contract() -> None:
    covered = {row.active().name for row in METHODS.values()}
    assert {entry.method.name for entry in REGISTERED.values()} <= covered


def test_methods_say_whether_they_couple_images(tmp_path: Path) -> None:
    for name, row in METHODS.items():
        assert row.active().couples == (row.images > 1), f"{name}: what couples is held to whole groups below"
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    for alone in (NegToMe(str(tmp_path / "a.png")), SPELL(references=str(tmp_path / "a.png"), within=False)):
        assert not alone.couples
    assert AdaptiveNegatives("always_cat", kind=lambda negative: SPELL()).couples


@pytest.mark.parametrize("family", PIPELINES)
@pytest.mark.parametrize("method", METHODS)
def test_contract(method: str, family: str) -> None:
    row, pipe = METHODS[method], families.build(family)
    plain = families.run(family)
    if row.neutral is not None:
        with attach(pipe, row.neutral()) as attached:
            assert torch.equal(families.run(family), plain), "neutral settings give the plain pixels"
        assert attached.passes == 2 * len(attached.trace)
    n = row.images
    several = {} if n == 1 else {"num_videos_per_prompt" if family.startswith("wan") else "num_images_per_prompt": n}
    if family in row.refuses:
        each = {**several, "generator": [torch.Generator().manual_seed(seed) for seed in range(n)]} if n > 1 else {}
        with attach(pipe, row.on(family)), pytest.raises(Unsupported):
            families.run(family, **each)
        assert torch.equal(families.run(family), plain)
        return
    prompts = ["a pet on grass", "one red apple"]
    seeds = [[*range(n)]] * 2 if family == "inpaint" else [[*range(n)], [*range(n, 2 * n)]]

    def images(prompt: str | list[str], *seeds: int) -> torch.Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return families.run(family, prompt=prompt, **several, generator=generators if len(seeds) > 1 else generators[0])

    if n > 1:
        prompts[1] = "one red apples"  # Qwen-Image mixes the masks of texts of several lengths up when it repeats them
    errors = []
    with attach(pipe, row.on(family)) as attached:
        both = images(prompts, *seeds[0], *seeds[1])
        assert attached.passes <= row.passes * len(attached.trace)
        for i, own in enumerate(seeds):
            alone = images(prompts[i], *own)
            errors.append(float((both[i * n : (i + 1) * n] - alone).abs().max() / alone.abs().max()))
        assert both.isfinite().all()
    assert not torch.equal(both[:n], images(prompts[0], *seeds[0])), "at work it changes the picture"
    assert torch.equal(families.run(family), plain), "detached: the plain pixels"
    tolerance = 2e-4 if n == 1 else MATCHED.get(family, 5e-4)
    if max(errors) >= tolerance:
        stock = images(prompts, *seeds[0], *seeds[1])
        alone = [images(prompt, *own) for prompt, own in zip(prompts, seeds, strict=True)]
        families.skip_where_stock_mixes_prompts(family, stock, alone, tolerance)
    assert max(errors) < tolerance, f"images of the batch differ from the images alone: {errors}"


@pytest.mark.parametrize(
    ("method", "family"),
    [
        (name, family)
        for name, row in METHODS.items()
        for family in ("sd15", "sd3", "flux", "wan", "zimage")
        if name != "perp_neg" and family not in row.refuses
    ],
)
def test_two_methods_compose(method: str, family: str) -> None:
    images = METHODS[method].images
    several = {"num_videos_per_prompt" if family == "wan" else "num_images_per_prompt": images}
    generators = [torch.Generator().manual_seed(seed) for seed in range(images)]
    with attach(families.build(family), METHODS["perp_neg"].active(), METHODS[method].on(family)) as attached:
        found = families.run(family, **several, generator=generators if images > 1 else generators[0])
        names = {name for record in attached.trace for name in record.methods}
    assert found.isfinite().all() and "perp_neg" in names and len(names) == 2


@pytest.mark.parametrize("method", METHODS)
def test_config_to_json_to_config(method: str) -> None:
    for make in (METHODS[method].active, METHODS[method].neutral):
        if make is not None:
            config = make()
            assert from_json(to_json(config)) == config
            json.loads(to_json(config))
