"""The demo's server by its API: pictures that can be made again, many at once, stopping, accidents, manners."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from demo_server import FIRST, Served, served
from gradio_client import Client
from PIL import Image

import negguide as ng
from negguide.cli import main
from negguide.demo import engine as engine_module
from negguide.demo.board import results as results_html
from negguide.demo.carried import KEY
from negguide.demo.engine import Engine
from negguide.demo.options import Options
from negguide.demo.pictures import png64
from negguide.demo.results import Board
from negguide.demo.settings import make_settings
from negguide.demo.turns import Job, Stopped
from negguide.experiment.models import Model


def test_the_code_of_the_page_runs(server: Served) -> None:
    """The block of docs/demo.md, with this server's address in the place of the usual one."""
    page = Path(__file__).parents[1] / "docs" / "demo.md"
    (block,) = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert "http://127.0.0.1:7860" in block
    names: dict[str, Any] = {}
    exec(compile(block.replace("http://127.0.0.1:7860", server.url), "demo.md", "exec"), names)
    assert names["numbers"]["command"].startswith("negguide compare") and Path(names["picture"]).is_file()


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served() as found:
        yield found


@pytest.fixture(scope="module")
def client(server: Served) -> Client:
    return Client(server.url, verbose=False)


def _pixels(file: str | Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def _run(engine: Engine, values: dict[str, Any]) -> Board:
    job = engine.submit(make_settings(values, engine.options), "me", "mine")
    while not job.done:
        time.sleep(0.02)
    board: Board = job.news
    assert job.error is None and board.state == "done", board
    return board


MASK = np.zeros((32, 32), np.uint8)
MASK[:, 16:] = 255
REFERENCE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))


@pytest.mark.parametrize(
    "values",
    [
        {"methods": ["perp_neg:weight=1.5+apg"], "negatives": "cat:0.5, hat@0-0.6", "count": 2, "seed": 3},
        {"methods": ["signed"], "mask": png64(Image.fromarray(MASK), 64), "count": 1, "guidance": 4.25},
        {"methods": ["negtome:alpha=1.9"], "negatives": "", "pictures": [{"png": png64(REFERENCE, 64)}], "count": 2},
        {"methods": ["adaptive:looks=2"], "negatives": "", "count": 2},
    ],
    ids=["weights and windows", "mask", "picture", "adaptive"],
)
def test_python_and_command_make_exactly_this_picture(
    server: Served, values: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = _run(server.engine, {"steps": 3, **values})
    for at, result in enumerate(board.results):
        shown = [_pixels(file) for file in result.files]
        assert len(shown) == board.settings.count
        if at == 0 and "seed" not in values:
            continue  # plain needs to be made again once only
        space: dict[str, Any] = {}
        exec(compile(result.python, "copied", "exec"), space)
        assert all((np.asarray(a.convert("RGB")) == b).all() for a, b in zip(space["images"], shown, strict=True))
        words = shlex.split(result.command)
        words[words.index("--out") + 1] = str(tmp_path / str(at))
        assert words[0] == "negguide"
        assert main([*words[1:], "--no-judge"]) == 0, capsys.readouterr().err
        made = [file for file in Path(words[words.index("--out") + 1]).rglob("*.png") if file.stem.isdecimal()]
        made.sort(key=lambda file: int(file.stem))
        assert all((_pixels(a) == b).all() for a, b in zip(made, shown, strict=True))
    plain, guided = board.results
    assert any((_pixels(a) != _pixels(b)).any() for a, b in zip(plain.files, guided.files, strict=True))


def test_generate_hands_out_a_picture_with_its_settings_and_numbers(client: Client) -> None:
    picture, told = client.predict("a pet on grass", "cat", "perp_neg", 5, 2, None, "toybox", api_name="/generate")
    with Image.open(picture) as image:
        assert image.size == (128, 128)
        inside = make_settings(json.loads(image.text[KEY]), Options())
        assert (inside.methods, inside.negatives, inside.seed, inside.count, inside.steps) == (
            ("perp_neg",),
            "cat",
            5,
            1,
            2,
        )
        assert ng.from_dict(json.loads(image.text["methods"])[0]) == ng.PerpNeg("cat")
    assert told["scores"]["passes"] == 6 and told["scores"]["seconds"] > 0 and 0 <= told["presence"]["cat"] <= 1
    assert "ng.PerpNeg('cat')" in told["python"] and "--seeds 5 --steps 2" in told["command"]


def test_compare_measures_every_method(client: Client) -> None:
    pictures, told = client.predict("a pet", "cat", "negative nag", 0, 2, 2, "toybox", api_name="/compare")
    assert [one["caption"] for one in pictures] == [
        f"{m}, seed {s}" for m in ("plain", "negative", "nag") for s in (0, 1)
    ]
    for scores in (one["scores"] for one in told.values()):
        assert {"seconds", "passes", "vendi", "mss", "alignment"} <= set(scores)
        assert 1 <= scores["vendi"] <= 2
    assert [one["name"] for one in client.predict(api_name="/methods")] == list(ng.METHODS)


def test_twenty_at_once_get_their_own_pictures(server: Served) -> None:
    from negguide.demo.settings import request_of
    from negguide.experiment.sampling import make

    seeds = range(100, 120)
    clients = [Client(server.url, verbose=False) for _ in range(2)]

    def ask(seed: int) -> np.ndarray:
        arguments = ("a pet on grass", "cat", "plain", seed, 1, None, "toybox")
        return _pixels(clients[seed % 2].predict(*arguments, api_name="/generate")[0])

    with ThreadPoolExecutor(len(seeds)) as pool:
        got = dict(zip(seeds, pool.map(ask, seeds), strict=True))
    model = server.engine.shelf.get(("toybox", "auto", "none"))
    for seed in seeds:
        settings = make_settings({"methods": [], "seed": seed, "count": 1, "steps": 1}, server.engine.options)
        request = request_of(settings, server.engine.options, 1, 5.0)[0].request
        alone = make(model, request, "a pet on grass", (), (seed,)).images[0]
        assert (np.asarray(alone) == got[seed]).all(), seed
    assert len({image.tobytes() for image in got.values()}) == len(seeds)


def test_stop_ends_the_denoiser_within_one_step(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[Job] = []
    submit = server.engine.turns.submit
    monkeypatch.setattr(server.engine.turns, "submit", lambda *rest: jobs.append(submit(*rest)) or jobs[-1])
    client = Client(server.url, verbose=False)
    asked = client.submit("a pet", "cat", "perp_neg", 1, 100, None, "toybox", api_name="/generate")
    while not jobs or jobs[0].steps < 2:
        time.sleep(0.005)
        assert not asked.done()
    assert client.predict(api_name="/stop") == 1
    with pytest.raises(Exception, match="Stopped after"):
        asked.result(60)
    assert isinstance(jobs[0].error, Stopped) or jobs[0].news.state == "stopped"
    assert jobs[0].steps < 100 and jobs[0].stopped_after <= 1
    assert client.predict("a pet", "", "plain", 1, 1, None, "toybox", api_name="/generate")[1]["error"] == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a pet", "cat:x", "perp_neg", 0, 2, None, "toybox"), "cannot be read"),
        (("a pet", "cat", "perp_neg", 0, 1000, None, "toybox"), "at most 100"),
        (("a pet", "cat", "perp_neg", 0, 2, None, "/etc"), "not offered"),
        (("a pet", "cat", "perp_neg", -1, 2, None, "toybox"), "seed"),
        (("a pet", "", 'adaptive:watcher="chat:a/b"', 0, 2, None, "toybox"), "possible: toybox"),
    ],
)
def test_bad_input_is_explained(client: Client, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(Exception, match=message):
        client.predict(*arguments, api_name="/generate")


def test_accidents_leave_the_server_serving(client: Client, server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    real = engine_module.make
    for error, message in (
        (torch.OutOfMemoryError("CUDA out of memory"), "ran out of memory"),
        (RuntimeError("the denoiser broke"), "the denoiser broke"),
        (AssertionError(), "AssertionError"),
    ):

        def fail(*rest: Any, error: BaseException = error, **more: Any) -> Any:
            raise error

        monkeypatch.setattr(engine_module, "make", fail)
        with pytest.raises(Exception, match=message):
            client.predict("a pet", "", "plain", 9, 2, None, "toybox", api_name="/generate")
    monkeypatch.setattr(engine_module, "make", real)
    assert client.predict("a pet", "", "plain", 9, 1, None, "toybox", api_name="/generate")[1]["error"] == ""


def test_one_method_that_fails_leaves_the_others(server: Served) -> None:
    board = _run(server.engine, {"methods": ["cfg_zero_star:zero_init_steps=1", "negative"], "count": 1, "steps": 2})
    plain, broken, negative = board.results
    assert (plain.state, broken.state, negative.state) == ("done", "failed", "done")
    assert "flow" in broken.error and not broken.files and negative.files


@pytest.mark.filterwarnings("ignore:adaptive")
def test_a_watcher_that_fails_is_told_and_asked_again(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    from negguide.watchers.vqa import VisualQuestionAnswering

    def gone(*rest: Any) -> Any:
        raise OSError("no such weights")

    values = {"methods": ["adaptive"], "negatives": "", "count": 1, "steps": 4, "seed": 77}
    with monkeypatch.context() as patch:
        patch.setattr(VisualQuestionAnswering, "__call__", gone)
        plain, lost = _run(server.engine, values).results
    assert plain.state == "done" and lost.state == "failed" and len(lost.images) == 1
    assert "lost 3 of its 3 looks (OSError: no such weights)" in lost.error
    assert not lost.files and not lost.scores, "plain pixels are not handed out as the method's"
    page = results_html(Board(make_settings(values, server.engine.options), (plain, lost), "done"))
    assert page.count("<img") == 2 and "no such weights" in page
    assert server.engine.known(make_settings(values, server.engine.options)) is None
    again = _run(server.engine, values).results[1]
    assert again.state == "done" and again.files


def test_watching_methods_tell_what_they_saw(server: Served) -> None:
    board = _run(server.engine, {"methods": ["adaptive"], "negatives": "", "count": 2, "steps": 4})
    looks = board.results[1].looks
    assert len(looks) == 2 and all(rows for rows in looks)
    for rows in looks:
        assert all(
            look.picture is not None and look.picture.size == (64, 64) and look.acts_from == look.step + 1
            for look in rows
        )
        added = [one for look in rows for one in look.added]
        assert added == list(dict.fromkeys(added)) and set(added) <= {word for look in rows for word, _ in look.seen}


def test_files_outside_are_not_served_and_large_ones_not_taken(server: Served) -> None:
    secret = Path(__file__).resolve()
    for path in (secret, "/etc/passwd", f"{server.engine.files.root}/../../etc/passwd"):
        assert httpx.get(f"{server.url}/gradio_api/file={path}").status_code in (403, 404)
    large = httpx.post(
        f"{server.url}/gradio_api/upload", files={"files": ("a.png", b"x" * (server.engine.options.upload + 1))}
    )
    assert large.status_code == 413
    assert httpx.post(f"{server.url}/gradio_api/upload", files={"files": ("a.png", b"x")}).status_code == 200


def test_the_api_is_named_and_private_events_stay_private(client: Client) -> None:
    named = client.view_api(return_format="dict")["named_endpoints"]
    assert set(named) == {"/generate", "/compare", "/methods", "/stop"}
    assert [one["parameter_name"] for one in named["/generate"]["parameters"]][:4] == [
        "prompt",
        "negatives",
        "method",
        "seed",
    ]


def test_agents_find_the_tools_and_strangers_a_login() -> None:
    with served(Options(first=FIRST), agents=True) as open_one:
        tools = httpx.get(f"{open_one.url}/gradio_api/mcp/schema", timeout=60).json()
        found = {tool["name"].rpartition("negguide_")[2]: tool for tool in tools}
        generate = next(tool for name, tool in found.items() if name.endswith("generate"))
        assert "Make one picture" in generate["description"]
        assert "not show" in generate["inputSchema"]["properties"]["negatives"]["description"]
    with served(Options(first=FIRST), logins=[("me", "secret")]) as closed:
        assert httpx.post(f"{closed.url}/gradio_api/call/methods", json={"data": []}).status_code == 401
        assert httpx.get(f"{closed.url}/config").status_code == 401
        folder = closed.engine.files.root
        assert folder.is_dir()
    assert not folder.exists()


def test_equal_settings_are_not_made_twice(server: Served) -> None:
    board = _run(server.engine, {"methods": [], "seed": 77, "count": 1, "steps": 1})
    assert server.engine.known(board.settings) is board
    assert server.engine.known(board.settings.model_copy(update={"seed": 78})) is None


def test_a_model_of_ones_own(tmp_path: Path) -> None:
    from standin import standin_folder

    folder = standin_folder()
    engine = Engine(Options(allow_models=(folder,)))
    try:
        board = _run(engine, {"model": folder, "methods": ["perp_neg"], "count": 2, "steps": 2, "guidance": 5})
        assert {"vendi", "mss", "passes"} <= set(board.results[1].scores) and "alignment" not in board.results[1].scores
        assert engine.shelf.name == folder and isinstance(engine.shelf.get((folder, "auto", "none")), Model)
    finally:
        engine.close()
