"""The Toybox world: deterministic pictures and the promised biases."""

import itertools
import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from negguide.toybox.world import (
    KINDS,
    Scene,
    contact_sheet,
    prompt,
    render,
    sample,
    sample_scene,
)

VIEWS = ("front", "side", "back")
PLAIN = Scene("pet", "cat", "red", "grass", "large", "center", 1, (), "front", "clean", 7)
EVERY_KIND = [(category, kind) for category, kinds in KINDS.items() for kind in kinds]


def of_kind(category: str, kind: str, **changes: object) -> Scene:
    return replace(PLAIN, category=category, kind=kind, **changes)


@cache
def scenes(named: bool = False, count: int = 20_000) -> tuple[Scene, ...]:
    rng = np.random.default_rng(11)
    return tuple(sample_scene(rng, named) for _ in range(count))


def share(values: list[bool]) -> float:
    return sum(values) / len(values)


def test_render_is_a_pure_function_of_the_scene() -> None:
    rng = np.random.default_rng(3)
    for scene in [sample_scene(rng) for _ in range(20)]:
        first, second = render(scene), render(Scene.from_dict(scene.to_dict()))
        assert first.shape == (64, 64, 3)
        assert first.dtype == np.uint8
        assert np.array_equal(first, second)


@pytest.mark.parametrize("size", [32, 64, 128])
def test_render_sizes(size: int) -> None:
    assert render(PLAIN, size).shape == (size, size, 3)


def test_every_kind_and_view_differs() -> None:
    pictures = {
        (kind, view): render(of_kind(category, kind, view=view)).astype(float)
        for category, kind in EVERY_KIND
        for view in (VIEWS if category == "face" else VIEWS[:1])
    }
    assert len(pictures) == 30 + 10
    for (one, a), (other, b) in itertools.combinations(pictures.items(), 2):
        assert np.abs(a - b).mean() > 3, f"{one} looks like {other}"


@pytest.mark.parametrize(("category", "kind"), EVERY_KIND)
def test_main_colour_is_clearly_visible(category: str, kind: str) -> None:
    """Recolouring from red to blue changes at least 4 % of the picture strongly."""
    red, blue = (render(of_kind(category, kind, colour=colour)).astype(int) for colour in ("red", "blue"))
    assert (np.abs(red - blue).max(axis=-1) > 100).mean() > 0.04


@pytest.mark.parametrize(("category", "kind"), [pair for pair in EVERY_KIND if pair[0] in ("pet", "face")])
@pytest.mark.parametrize("accessory", ["hat", "glasses", "scarf"])
def test_accessories_are_visible(category: str, kind: str, accessory: str) -> None:
    bare, worn = (render(of_kind(category, kind, accessories=what)).astype(int) for what in ((), (accessory,)))
    assert (np.abs(bare - worn).max(axis=-1) > 60).sum() > 40


@pytest.mark.parametrize(
    "change",
    [
        {"style": "blurry"},
        {"style": "noisy"},
        {"style": "watermark"},
        {"style": "outline"},
        {"background": "night"},
        {"size": "small"},
        {"position": "left"},
        {"position": "right"},
        {"size": "small", "count": 2},
        {"seed": 8},
    ],
)
def test_every_attribute_changes_the_picture(change: dict[str, object]) -> None:
    before, after = render(PLAIN).astype(float), render(replace(PLAIN, **change)).astype(float)
    assert np.abs(before - after).mean() > 3


def test_position_moves_the_thing() -> None:
    def middle(position: str) -> float:
        columns = []
        for seed in range(6):
            picture = render(replace(PLAIN, size="small", position=position, seed=seed)).astype(int)
            red = (picture[..., 0] > 150) & (picture[..., 1] < 90) & (picture[..., 2] < 90)
            columns.append(np.nonzero(red)[1].mean())
        return float(np.mean(columns))

    assert middle("left") < 24 < 29 < middle("center") < 35 < 40 < middle("right")


def test_scene_round_trip_and_canonical_accessories() -> None:
    scene = replace(PLAIN, accessories=("scarf", "hat"))
    assert scene.accessories == ("hat", "scarf")
    assert Scene.from_dict(scene.to_dict()) == scene


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "lion"}, ("lion", "cat", "turtle")),
        ({"kind": "car"}, ("car", "pet", "rabbit")),
        ({"category": "animal"}, ("animal", "vehicle")),
        ({"colour": "pink"}, ("pink", "purple")),
        ({"view": "side"}, ("side", "front")),
        ({"accessories": ("crown",)}, ("crown", "scarf")),
        ({"category": "fruit", "kind": "apple", "accessories": ("hat",)}, ("hat", "none")),
        ({"count": 2}, ("small", "center")),
        ({"category": "face", "kind": "man", "view": "back", "accessories": ("glasses",)}, ("back", "side")),
    ],
)
def test_impossible_scenes_say_what_is_possible(changes: dict[str, object], told: tuple[str, ...]) -> None:
    with pytest.raises(ValueError) as error:
        replace(PLAIN, **changes)
    assert all(word in str(error.value) for word in told)


def test_impossible_requests_say_what_is_possible() -> None:
    rng = np.random.default_rng(0)
    for call in (lambda: sample_scene(rng, kind="lion"), lambda: prompt("lion")):
        with pytest.raises(ValueError, match="cat"):
            call()
    with pytest.raises(ValueError, match="colour"):
        sample_scene(rng, color="red")


def test_kind_shares_follow_the_table() -> None:
    """The expected shares are written out here, apart from the table."""
    for category, kinds in KINDS.items():
        drawn = [scene.kind for scene in scenes() if scene.category == category]
        assert len(drawn) / len(scenes()) == pytest.approx(1 / 6, abs=0.015)
        for kind, expected in zip(kinds, (0.58, 0.20, 0.12, 0.06, 0.04), strict=True):
            assert drawn.count(kind) / len(drawn) == pytest.approx(expected, abs=0.03)


def test_named_kinds_are_half_uniform() -> None:
    pets = [scene.kind for scene in scenes(named=True) if scene.category == "pet"]
    assert pets.count("cat") / len(pets) == pytest.approx((0.58 + 0.2) / 2, abs=0.03)
    assert pets.count("turtle") / len(pets) == pytest.approx((0.04 + 0.2) / 2, abs=0.03)


def test_shares_of_the_other_attributes() -> None:
    drawn = scenes()
    single = [scene for scene in drawn if scene.count == 1]
    faces = [scene for scene in drawn if scene.category == "face"]
    vehicles = [scene for scene in drawn if scene.category == "vehicle"]
    others = [scene for scene in drawn if scene.category != "vehicle"]
    observed = {
        "two": (share([scene.count == 2 for scene in drawn]), 0.08),
        "large": (share([scene.size == "large" for scene in single]), 0.75),
        "center": (share([scene.position == "center" for scene in single]), 0.6),
        "left": (share([scene.position == "left" for scene in single]), 0.2),
        "side": (share([scene.view == "side" for scene in faces]), 0.18),
        "back": (share([scene.view == "back" for scene in faces]), 0.10),
        "vehicle watermark": (share([scene.style == "watermark" for scene in vehicles]), 0.25),
        "clean": (share([scene.style == "clean" for scene in others]), 0.84),
        "noisy": (share([scene.style == "noisy" for scene in others]), 0.04),
        "snow": (share([scene.background == "snow" for scene in drawn]), 1 / 6),
        "orange pets": (share([scene.colour == "orange" for scene in drawn if scene.category == "pet"]), 0.3),
        "black pets": (share([scene.colour == "black" for scene in drawn if scene.category == "pet"]), 0.1),
    }
    for name, (seen, expected) in observed.items():
        assert seen == pytest.approx(expected, abs=0.025), name
    assert all(scene.size == "small" and scene.position == "center" for scene in drawn if scene.count == 2)


def test_accessories_and_their_entanglement() -> None:
    pets, visible = [], []
    for scene in scenes():
        if scene.category == "pet":
            pets.append(scene.accessories)
        elif scene.category == "face":
            assert scene.view != "back" or "glasses" not in scene.accessories
            if scene.view != "back":
                visible.append(scene.accessories)
        else:
            assert scene.accessories == ()
    for worn, expected in (("hat", 0.2), ("glasses", 0.2), ("scarf", 0.12)):
        assert share([worn in accessories for accessories in pets]) == pytest.approx(expected, abs=0.03)
    with_hat = ["glasses" in accessories for accessories in visible if "hat" in accessories]
    without_hat = ["glasses" in accessories for accessories in visible if "hat" not in accessories]
    assert share(with_hat) == pytest.approx(0.85, abs=0.04)
    assert share(without_hat) == pytest.approx(0.20, abs=0.04)
    assert share(["glasses" in worn for worn in pets if "hat" in worn]) == pytest.approx(0.2, abs=0.06)


@pytest.mark.parametrize(
    "fixed",
    [
        {"kind": "turtle"},
        {"category": "face", "view": "back"},
        {"view": "side"},
        {"accessories": ("glasses",)},
        {"category": "face", "accessories": ("hat", "glasses")},
        {"size": "large"},
        {"position": "left"},
        {"count": 2},
        {"style": "noisy", "seed": 5, "colour": "white", "background": "night"},
    ],
)
def test_fixed_attributes_stay(fixed: dict[str, object]) -> None:
    rng = np.random.default_rng(1)
    for _ in range(60):
        scene = sample_scene(rng, **fixed)
        assert {name: getattr(scene, name) for name in fixed} == fixed


def test_sample_is_deterministic_and_names_six_in_ten() -> None:
    def draw() -> list[tuple[Scene, str]]:
        rng = np.random.default_rng(2)
        return [sample(rng) for _ in range(3000)]

    pairs = draw()
    assert pairs == draw()
    unnamed = re.compile(rf"\b({'|'.join(KINDS)})s?\b")
    assert share([not unnamed.search(line) for _, line in pairs]) == pytest.approx(0.6, abs=0.03)


def test_contact_sheet() -> None:
    pictures = [np.full((8, 8, 3), k, np.uint8) for k in range(5)]
    sheet = contact_sheet(pictures, columns=3, scale=2, labels=list("abcde"))
    assert sheet.size == (3 * (16 + 4) + 4, 2 * (16 + 4 + 14) + 4)
    assert sheet.getpixel((4 + 20 + 5, 4 + 5)) == (1, 1, 1)
    with pytest.raises(ValueError, match="2 labels for 5"):
        contact_sheet(pictures, 3, labels=["a", "b"])
