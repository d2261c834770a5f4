"""What the demo is made of, without a server: settings, controls, turns, models at hand, painted masks."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import negguide as ng
from negguide.cli import main
from negguide.demo.carried import KEY, from_link, from_png, to_link
from negguide.demo.controls import all_controls, controls_of
from negguide.demo.options import Options
from negguide.demo.pictures import enlarged, painted, png64, thumb
from negguide.demo.settings import make_settings, request_of
from negguide.experiment.arms import format_part, parse_arms, parse_parts
from negguide.methods import METHODS, Method, register
from negguide.methods.options import check_options, option
from negguide.methods.registry import Entry

OPTIONS = Options()
WATCHERS = ("toybox",)


def _png64(value: int = 255, size: tuple[int, int] = (8, 8)) -> str:
    return png64(Image.new("L", size, value), 64)


def test_arms_in_words_come_back() -> None:
    texts = [
        "perp_neg:weight=2+apg:eta=0.5",
        'adaptive:watcher="toybox":watch=["a, b","c:d+e"]',
        "negtome:window=[0,0.4]",
    ]
    for text in texts:
        parts = parse_parts(text)
        assert "+".join(map(format_part, parts)) == text
        assert [dict(part.options) for part in parse_parts("+".join(map(format_part, parts)))] == [
            dict(part.options) for part in parts
        ]
    assert [arm.label for arm in parse_arms(",".join(["plain", *texts]))] == ["plain", *texts]
    assert parse_parts(texts[1])[0].options["watch"] == ["a, b", "c:d+e"]


def test_every_method_has_controls_that_hold_its_defaults() -> None:
    found = all_controls(WATCHERS)
    assert list(found) == [name for name in METHODS if name != "learned_negative"], "which needs a file of the server"
    for name, controls in found.items():
        for control in controls:
            assert control.read(control.show(control.default)) == control.default, (name, control.field)


@pytest.mark.parametrize(
    "text",
    [
        "cads:seed=4242",
        "negtome:seed=2024",
        "adaptive:preview_size=1024",
        "cads:tau_1=0.95:tau_2=0.97",
        "dng:prior=0.85:p_max=0.9",
        "dng:p_max=0.005:prior=0.004",
        "apg:momentum=0.9995",
    ],
)
def test_what_the_library_accepts_the_demo_accepts(text: str) -> None:
    made = request_of(make_settings({"methods": [text]}, OPTIONS), OPTIONS)[1].arm.build([ng.Negative("cat")])[0]
    for name, value in parse_parts(text)[0].options.items():
        assert getattr(made, name) == value


@pytest.mark.parametrize(
    "text",
    ["cads:tau_1=0.95", "dng:prior=0.85", "apg:momentum=1", "apg:momentum=-1", "adaptive:looks=1001", "nag:scale=0.5"],
)
def test_what_the_library_refuses_the_demo_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="possible"):
        make_settings({"methods": [text]}, OPTIONS)


def test_every_control_has_its_help() -> None:
    for name, controls in all_controls(WATCHERS).items():
        for control in controls:
            assert control.meaning.help.endswith((".", ")")), (name, control.field)


def test_a_new_method_appears_by_itself() -> None:
    @dataclasses.dataclass(frozen=True)
    class Fresh(Method):
        """Does nothing."""

        name: ClassVar[str] = "fresh"
        force: float = option(1.0, help="How much of it.", low=0, high=3)
        way: Literal["here", "there"] = "here"

        def __post_init__(self) -> None:
            check_options(self)

    force, way = controls_of(Entry("fresh", Fresh, {}, "", "", ""), WATCHERS)
    assert (force.kind, force.default, force.meaning.low, force.meaning.high) == ("number", 1.0, 0, 3)
    assert force.meaning.help == "How much of it."
    assert (way.kind, way.choices, way.default) == ("choice", ("here", "there"), "here")
    register(Fresh)
    try:
        all_controls.cache_clear()
        assert "fresh" in all_controls(WATCHERS)
        assert request_of(make_settings({"methods": ["fresh:force=2"]}, OPTIONS), OPTIONS)[1].arm.build(())[0] == Fresh(
            2
        )
    finally:
        del METHODS["fresh"]
        all_controls.cache_clear()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prompt": " "}, "empty"),
        ({"negatives": "cat:x"}, "cannot be read"),
        ({"negatives": ""}, "needs a negative"),
        ({"methods": ["perp_ne"]}, "did you mean 'perp_neg'"),
        ({"methods": ["plain"]}, "always there"),
        ({"methods": ["nag", "nag"]}, "given twice"),
        ({"methods": ["nag"] * 7}, "at most 6"),
        ({"count": 9}, "at most 8"),
        ({"steps": 101}, "at most 100"),
        ({"steps": 0}, "greater than or equal to 1"),
        ({"size": "4096"}, "at most 1536"),
        ({"size": "100"}, "multiples of 8"),
        ({"guidance": float("nan")}, "finite"),
        ({"seed": -1}, "seed"),
        ({"nonsense": 1}, "nonsense"),
        ({"takeover": True}, "guidance scale"),
        ({"model": "/etc"}, "not offered"),
        ({"model": "org/name"}, "--allow-models"),
        ({"model": "toybox/nothing"}, "not offered"),
        ({"mask": "AAAA"}, "PNG"),
        ({"mask": _png64(0)}, "mask is empty"),
        ({"pictures": [{"png": "AAAA"}], "methods": ["negtome"]}, "cannot be read"),
        ({"methods": ['negtome:reference="/etc/passwd.png"']}, "first, all"),
        ({"methods": ['negtome:reference=[{"path":"/etc/passwd"}]']}, "first, all"),
        ({"methods": ['negtome:reference={"folder":"/etc","clip":"toybox"}']}, "first, all"),
        ({"methods": ['learned_negative:file="/etc/passwd"']}, "reads a file of the server"),
        ({"methods": ['spell:references=["/etc/passwd"]']}, "cannot be set here"),
        ({"methods": ['adaptive:watcher="vqa:some/model"']}, "possible: toybox"),
        ({"methods": ['adaptive:preview="org/vae"']}, "cannot be set here"),
        ({"methods": ["adaptive:looks=100000000"]}, "from 0 to 1000"),
        ({"methods": ['perp_neg:negatives=[{"prompt":"cat"}]']}, "cannot be set here"),
        ({"methods": ["rescale:guidance_rescale=2"]}, "from 0 to 1"),
    ],
)
def test_what_a_stranger_sends_is_checked(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_settings(values, OPTIONS)


def test_masks_and_pictures_reach_the_methods_that_take_them() -> None:
    mask, picture = _png64(), _png64(90)
    settings = make_settings(
        {
            "negatives": "cat:0.5, hat@0-0.4",
            "methods": ["perp_neg:weight=2", "negtome", "spell", "guard", "apg"],
            "mask": mask,
            "pictures": [{"png": picture, "mask": mask}],
        },
        OPTIONS,
    )
    arms = request_of(settings, OPTIONS)[1:]
    perp, negtome, spell, guard, apg = (one.arm.build(one.request.tasks[0].negatives)[0] for one in arms)
    assert [(n.prompt, n.weight, n.window) for n in perp.negatives] == [
        ("cat", 1.0, ng.Window()),
        ("hat", 2.0, ng.Window(0, 0.4)),
    ]
    assert all(negative.mask == ng.Mask.from_dict({"png": mask}) for negative in perp.negatives)
    assert negtome.reference[0].mask is not None and negtome.mask is not None
    assert len(spell.references) == 1 and spell.references[0].picture().getpixel((0, 0)) == (90, 90, 90)
    assert guard.watch == ("cat", "hat") and apg == ng.APG()


def test_settings_survive_links_and_pictures() -> None:
    settings = make_settings(
        {"prompt": "a face --no hat", "methods": ["nag:scale=4+apg"], "seed": 7, "steps": 3, "mask": _png64()}, OPTIONS
    )
    text, whole = to_link(settings)
    assert whole and from_link(text, OPTIONS) == settings
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8))
    large = settings.model_copy(
        update={"pictures": make_settings({"pictures": [{"png": png64(noise, 256)}]}, OPTIONS).pictures}
    )
    text, whole = to_link(large)
    assert not whole and from_link(text, OPTIONS) == settings.model_copy(update={"mask": None})
    for broken in ("", "AAAA", text[: len(text) // 2], base64.urlsafe_b64encode(b"x" * 40).decode(), "A" * 100_000):
        with pytest.raises(ValueError, match="link"):
            from_link(broken, OPTIONS)
    assert from_png(_picture({KEY: settings.model_dump_json()}), OPTIONS) == settings
    for texts, message in (
        ({}, "no settings"),
        ({KEY: "{"}, "damaged"),
        ({KEY: "[1]"}, "damaged"),
        ({KEY: '{"model": "/etc"}'}, "not offered"),
    ):
        with pytest.raises(ValueError, match=message):
            from_png(_picture(texts), OPTIONS)
    with pytest.raises(ValueError, match="no PNG"):
        from_png(b"GIF89a", OPTIONS)


def test_pictures_of_compare_hold_settings_too() -> None:
    methods = [ng.PerpNeg([("cat", 0.5), "hat"]), ng.APG(eta=0.3)]
    texts = {
        "prompt": "a pet",
        "methods": json.dumps([ng.to_dict(one) for one in methods]),
        "seed": "5",
        "model": "toybox",
    }
    settings = from_png(_picture(texts), OPTIONS)
    assert (settings.prompt, settings.negatives, settings.seed, settings.count) == ("a pet", "cat:0.5, hat", 5, 1)
    built = request_of(settings, OPTIONS)[1]
    assert list(built.arm.build(built.request.tasks[0].negatives)) == methods


def _picture(texts: dict[str, str]) -> bytes:
    info = PngImagePlugin.PngInfo()
    for key, value in texts.items():
        info.add_itxt(key, value)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def test_painted_masks_and_small_pictures() -> None:
    layer = Image.new("RGBA", (40, 20), (0, 0, 0, 0))
    layer.paste((255, 0, 0, 255), (10, 5, 20, 15))
    mask = painted({"background": None, "layers": [layer], "composite": None})
    assert mask is not None
    expected = np.zeros((20, 40), np.uint8)
    expected[5:15, 10:20] = 255
    assert (np.asarray(mask) == expected).all()
    assert painted({"layers": [Image.new("RGBA", (4, 4))]}) is None and painted(None) is None
    assert enlarged(Image.new("RGB", (64, 32))).size == (704, 352)
    assert enlarged(Image.new("RGB", (900, 900))).size == (900, 900)
    assert thumb(Image.new("RGB", (64, 64))).startswith("data:image/png") and "webp" in thumb(
        Image.new("RGB", (900, 600))
    )


def test_limits_are_flags_and_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gradio")
    from negguide.demo.parts import initial

    started: list[Options] = []

    def build(options: Options) -> Any:
        started.append(options)
        raise ValueError("enough")

    monkeypatch.setattr("negguide.demo.server.build", build)
    words = "--max-pictures 2 --max-methods 1 --max-steps 9 --max-side 64 --max-upload 0.5 --max-seconds 30"
    assert main(["demo"]) == 2 and main(["demo", *words.split()]) == 2
    assert started[0] == Options()
    options = started[1]
    assert (options.upload, options.seconds) == (2**19, 30)
    assert initial(options).count == 2, "the first screen keeps to them"
    make_settings({"methods": ["perp_neg"], "count": 2, "steps": 9, "size": "64"}, options)
    for more in ({"count": 3}, {"methods": ["perp_neg", "nag"]}, {"steps": 10}, {"size": "64x72"}):
        with pytest.raises(ValueError, match=r"at most (2|1|9|64)"):
            make_settings({"methods": ["perp_neg"], "count": 1, **more}, options)
    assert main(["demo", "--max-side", "0"]) == 2
