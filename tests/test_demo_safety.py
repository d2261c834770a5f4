"""What strangers send to the demo: pictures that are bombs, broken links and files, odd values; and what is left behind."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from gradio.components.image_editor import EditorData
from gradio.data_classes import FileData
from PIL import Image, ImageFile, PngImagePlugin

from negguide.demo.carried import KEY, from_link, from_png
from negguide.demo.engine import Engine
from negguide.demo.files import Files
from negguide.demo.handlers import Handlers
from negguide.demo.options import Options
from negguide.demo.page import layout
from negguide.demo.pictures import SIDE, from_png64, png64
from negguide.demo.settings import make_settings
from negguide.methods import Mask, picture_file
from negguide.methods.picture_file import read_base64, read_picture
from negguide.methods.reference import Reference

OPTIONS = Options()


def _png(side: int, **more: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (side, side)).save(buffer, "PNG", **more)
    return buffer.getvalue()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _link(values: Any) -> str:
    return base64.urlsafe_b64encode(zlib.compress(json.dumps(values).encode(), 9)).decode().rstrip("=")


LARGE = _png(6000)
BOMB = LARGE[:16] + (40_000).to_bytes(4, "big") * 2 + LARGE[24:29]
BOMB += zlib.crc32(BOMB[12:29]).to_bytes(4, "big") + LARGE[33:]
"""Its header says 40000x40000."""


@pytest.fixture
def nothing_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(self: Any) -> None:
        raise AssertionError(f"a picture of {self.size} was decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decoded)


@pytest.fixture(scope="module")
def page() -> Iterator[Handlers]:
    engine = Engine(OPTIONS)
    with gr.Blocks():
        handlers = Handlers(layout(OPTIONS), engine)
    yield handlers
    engine.close()


@pytest.mark.parametrize("data", [_png(SIDE + 1), LARGE, BOMB], ids=["one pixel", "6000", "40000"])
@pytest.mark.parametrize("values", [{"mask": ""}, {"pictures": [{"png": ""}]}, {"pictures": [{"png": "", "mask": ""}]}])
def test_a_large_picture_in_settings_is_refused_before_it_is_decoded(
    values: dict[str, Any], data: bytes, nothing_is_decoded: None
) -> None:
    values = json.loads(json.dumps(values).replace('""', json.dumps(_text(data))))
    with pytest.raises(ValueError, match=f"at most {SIDE}"):
        from_link(_link(values), OPTIONS)


def test_a_large_png_is_refused_before_it_is_decoded(page: Handlers, nothing_is_decoded: None) -> None:
    for data in (LARGE, BOMB):
        with pytest.raises(ValueError, match="at most 2048"):
            from_png(data, OPTIONS)
        updates = page.load_png({page.page.load: data})
        assert "at most 2048" in updates[page.page.status] and updates[page.page.load] is None


def test_a_png_with_a_bomb_in_its_settings_is_told(page: Handlers) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text(KEY, json.dumps({"pictures": [{"png": _text(BOMB)}]}))
    updates = page.load_png({page.page.load: _png(64, pnginfo=texts)})
    assert f"at most {SIDE}" in updates[page.page.status] and updates[page.page.load] is None


@pytest.mark.parametrize("editor", ["mask", "avoid"])
def test_a_large_upload_is_refused_before_it_is_decoded(
    page: Handlers, editor: str, tmp_path: Path, nothing_is_decoded: None
) -> None:
    component = getattr(page.page, editor)
    for data in (LARGE, BOMB):
        (tmp_path / "a.png").write_bytes(data)
        file = FileData(path=str(tmp_path / "a.png"), orig_name="a.png")
        value = component.preprocess(EditorData(background=file, layers=[file], composite=file))
        if editor == "avoid":
            updates = page.avoid({page.page.avoid: value, page.page.avoided_state: []})
            assert "at most 2048" in updates[page.page.status] and page.page.avoided_state not in updates
        else:
            with pytest.raises(ValueError, match="at most 2048"):
                page.settings_of({**dict.fromkeys(page.page.settings), page.page.mask: value})


def test_a_picture_of_usual_size_is_added(page: Handlers, tmp_path: Path) -> None:
    half = Image.new("RGBA", (1200, 800), (255, 0, 0, 0))
    half.paste((0, 0, 255, 255), (600, 0, 1200, 800))
    half.save(tmp_path / "half.png")
    file = FileData(path=str(tmp_path / "half.png"), orig_name="half.png")
    value = page.page.avoid.preprocess(EditorData(background=file, layers=[file], composite=file))
    (added,) = page.avoid({page.page.avoid: value, page.page.avoided_state: []})[page.page.avoided_state]
    picture, mask = from_png64(added["png"]), from_png64(added["mask"])
    assert picture.size == (512, 341) and picture.getpixel((10, 10)) == (255, 255, 255)
    assert (
        picture.getpixel((500, 10)) == (0, 0, 255) and mask.getpixel((10, 10)) == 0 and mask.getpixel((250, 10)) == 255
    )


def test_equal_texts_are_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from negguide.demo.settings import request_of

    decoded = []
    read = picture_file.read_picture
    noise = Image.effect_noise((96, 96), 50).convert("RGB")
    values = {
        "methods": ["negtome", "spell", "particle_guidance"],
        "negatives": "",
        "pictures": [{"png": png64(noise, 96)}],
    }
    monkeypatch.setattr(picture_file, "read_picture", lambda data, *rest: decoded.append(data) or read(data, *rest))
    for _ in range(3):
        settings = make_settings(values, OPTIONS)
        for asked in request_of(settings, OPTIONS):
            asked.arm.build(asked.request.tasks[0].negatives)
    assert len(decoded) == 2  # once to see that it is one, once for the methods


def test_texts_inside_a_small_png_are_not_unpacked() -> None:
    texts = PngImagePlugin.PngInfo()
    for number in range(80):
        texts.add_text(f"k{number}", "x" * 1_000_000, zip=True)
    data = _png(16, pnginfo=texts)
    with pytest.raises(ValueError, match="damaged"):
        read_picture(data)
    assert read_base64(_text(data)).size == (16, 16)


def test_references_and_masks_of_json_are_checked(nothing_is_decoded: None) -> None:
    for make in (Reference.from_dict, Mask.from_dict):
        for data in (BOMB, b"no picture"):
            with pytest.raises(ValueError, match="cannot be read"):
                make({"png": _text(data)})
        with pytest.raises(ValueError, match="base64"):
            make({"png": 3})


BROKEN = {
    "no zip": "abc",
    "no json": base64.urlsafe_b64encode(zlib.compress(b"{")).decode(),
    "a list": _link([1]),
    "deep": base64.urlsafe_b64encode(zlib.compress(b"[" * 200_000)).decode(),
    "another model": _link({"model": "/etc"}),
    "strange": "é" * 10,
    "a window": _link({"methods": ["negative:window=[[[1]]]"]}),
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_link_is_told_and_nothing_runs_over_it(
    page: Handlers, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    request: Any = SimpleNamespace(query_params={"s": text})
    updates = page.open(request)
    with pytest.raises(ValueError, match=r"\w+"):
        from_link(text, OPTIONS)
    assert "The link cannot be used" in updates[page.page.status] and updates[page.page.opened] is False

    async def first() -> list[Any]:
        values = {**dict.fromkeys(page.page.settings), page.page.opened: updates[page.page.opened]}
        return [one async for one in page.run_opened(values, request)]

    monkeypatch.setattr(page, "run", lambda *rest: pytest.fail("it ran"))
    assert all(page.page.status not in one for one in asyncio.run(first()))


def test_checks_are_made_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    from negguide.demo import asking

    places: list[bool] = []
    check = asking.make_settings

    def noted(*rest: Any) -> Any:
        places.append(threading.current_thread() is threading.main_thread())
        return check(*rest)

    monkeypatch.setattr(asking, "make_settings", noted)
    engine = Engine(OPTIONS)
    try:
        with pytest.raises(ValueError, match="at most"):
            asyncio.run(asking.ask(engine, {"prompt": "a pet", "steps": 10**6}, "me", "mine"))
    finally:
        engine.close()
    assert places == [False]


def test_folders_go_when_they_are_old_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    names = {"of a killed one": f"negguide-demo-{ended.pid}-x", "of one alive": f"negguide-demo-{os.getppid()}-x"}
    for name in names.values():
        (tmp_path / name / "1").mkdir(parents=True)
        for path in (tmp_path / name / "1", tmp_path / name):
            os.utime(path, (0, 0))
    recent = tmp_path / f"negguide-demo-{ended.pid}-y"
    recent.mkdir()
    files = Files(kept=1000, every=0.02)
    assert [(tmp_path / name).exists() for name in names.values()] == [False, True] and recent.exists()
    old, new = files.folder(), files.folder()
    os.utime(old, (time.time() - 1001,) * 2)
    for _ in range(500):
        if not old.exists():
            break
        time.sleep(0.01)
    assert not old.exists() and new.exists()
    files.close()
    assert not files.root.exists()


def test_what_was_removed_is_made_again() -> None:
    engine = Engine(OPTIONS)
    try:
        settings = make_settings({"methods": [], "count": 1, "steps": 1}, OPTIONS)
        job = engine.submit(settings, "me", "mine")
        while not job.done:
            time.sleep(0.02)
        assert engine.known(settings) is job.news
        Path(job.news.results[0].files[0]).unlink()
        assert engine.known(settings) is None
    finally:
        engine.close()


SERVER = """
import sys, tempfile, threading, time
tempfile.tempdir = sys.argv[1]
from negguide.demo.options import Options
from negguide.demo.server import build, serve, warm
blocks, engine = build(Options(first={"steps": 1, "count": 1}))
warm(engine)
def tell():
    while not (engine._made and getattr(blocks, "is_running", False)):
        time.sleep(0.05)
    print("up", flush=True)
threading.Thread(target=tell, daemon=True).start()
serve(blocks, engine, quiet=True, inbrowser=False)
print("ended")
"""


def test_a_server_that_is_told_to_end_leaves_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "GRADIO_TEMP_DIR": str(tmp_path / "gradio")},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        assert list(tmp_path.glob("negguide-demo-*/1/*.png"))
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
        assert process.wait(60) == 0 and rest.endswith("ended\n")
        assert not list(tmp_path.glob("negguide-demo-*"))
    finally:
        process.kill()
