"""The number of the format is in all that is written, what is not known is left out with a warning, the page tells it all."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from standin import make_standin

import negguide as ng
from negguide import formats
from negguide.batch.measure import Measures
from negguide.batch.plan import Plan
from negguide.batch.store import Store
from negguide.cli import main
from negguide.compare import Request, Results, compare, parse_arms
from negguide.experiment.metadata import PictureMetadata
from negguide.experiment.models import Model
from negguide.experiment.tasks import make_tasks

PAGE = (Path(__file__).parents[1] / "docs" / "formats.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Results]:
    out = tmp_path_factory.mktemp("formats")
    tasks, arms = make_tasks(["a pet"], ["cat"]), parse_arms("plain,perp_neg")
    return out, compare(
        Model("stand-in", make_standin()), Request(tasks=tasks, arms=arms, seeds=(0,), out=out, steps=2)
    )


def section(title: str) -> str:
    return PAGE.split(f"## {title}")[1].split("\n## ")[0]


def test_results(made: tuple[Path, Results]) -> None:
    out, _ = made
    data = json.loads((out / "results.json").read_text())
    assert data["format"] == 1
    told = set(re.findall(r"`(\w+)`", section("`results.json`")))
    comparison = data["comparisons"][0]
    row = comparison["rows"][1]
    for found in (data, comparison, row, row["pictures"][0]):
        assert set(found) <= told, set(found) - told


def test_results_of_a_newer_version_are_read(made: tuple[Path, Results], tmp_path: Path) -> None:
    data = json.loads((made[0] / "results.json").read_text())
    data |= {"format": 2, "mood": "good"}
    data["comparisons"][0]["rows"][0]["colour"] = "red"
    (tmp_path / "results.json").write_text(json.dumps(data))
    with pytest.warns(UserWarning) as told:
        read = Results.load(tmp_path)
    words = " ".join(str(warning.message) for warning in told)
    assert (
        "format 2, of a newer negguide" in words and "mood" in words and "a row of results.json holds colour" in words
    )
    assert read.comparisons == made[1].comparisons
    del data["format"], data["mood"], data["comparisons"][0]["rows"][0]["colour"]
    (tmp_path / "results.json").write_text(json.dumps(data))
    assert Results.load(tmp_path).comparisons == made[1].comparisons  # of 0.1, without a number and without a warning


def test_a_picture(made: tuple[Path, Results]) -> None:
    out, results = made
    with Image.open(out / results.comparisons[0].rows[1].pictures[0].file) as image:
        texts = dict(image.text)  # type: ignore[attr-defined]
    assert texts["format"] == "1" and set(texts) <= set(re.findall(r"`(\w+)`", section("A PNG")))
    assert set(json.loads(texts["settings"])) <= set(re.findall(r"`(\w+)`", section("A PNG")))
    with pytest.warns(UserWarning, match="this PNG has format 7, of a newer negguide"):
        assert PictureMetadata.read({**texts, "format": "7"}) is not None
    with pytest.raises(ValueError, match="damaged"):
        PictureMetadata.read({**texts, "format": "seven"})


def test_a_method() -> None:
    text = ng.to_json(ng.PerpNeg("cat"))
    assert json.loads(text)["format"] == 1 and "format" not in ng.to_dict(ng.PerpNeg("cat"))
    newer = json.dumps({**json.loads(text), "format": 2, "mood": 3})
    with pytest.warns(UserWarning, match="JSON of perp_neg has format 2.*leaves out mood"):
        assert ng.from_json(newer) == ng.PerpNeg("cat")
    with pytest.raises(ValueError, match="perp_neg has no option 'mood'"):
        ng.from_dict({**ng.to_dict(ng.PerpNeg("cat")), "mood": 3})


def test_renamed_options_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ng.NAG, "renamed", {"strength": "scale"})
    with pytest.warns(DeprecationWarning, match="the option 'strength' of nag is now 'scale'"):
        assert ng.from_dict({"method": "nag", "negatives": ["cat"], "strength": 4}) == ng.NAG("cat", scale=4)


def test_a_plan(tmp_path: Path) -> None:
    plan = Plan.model_validate({"prompts": ["a pet"]})
    Store(tmp_path).save_plan(plan)
    data = json.loads((tmp_path / "plan.json").read_text())
    assert data["format"] == 1 and Plan.model_validate(data) == plan
    with pytest.warns(UserWarning, match="the plan holds mood"):
        assert Plan.model_validate({**data, "mood": 1}) == plan
    with pytest.raises(ValueError, match="mood"):
        Plan.model_validate({"prompts": ["a pet"], "mood": 1})


def test_records(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.record([{"key": "a", "file": "a.png", "time": "1"}])
    (file,) = tmp_path.glob("records/*.jsonl")
    assert json.loads(file.read_text()) == {"format": 1, "key": "a", "file": "a.png", "time": "1"}
    store.reload()
    assert store.records == {"a": {"key": "a", "file": "a.png", "time": "1"}}


def test_measures(tmp_path: Path) -> None:
    measures = Measures("pixels", "plain", 1, 1, {}, {}, [], [])
    measures.save(tmp_path)
    data = json.loads((tmp_path / "measures.json").read_text())
    told = set(re.findall(r"`(\w+)`", section("A batch")))
    assert data["format"] == 1 and set(data) <= told, set(data) - told
    (tmp_path / "measures.json").write_text(json.dumps({**data, "mood": 1}))
    with pytest.warns(UserWarning, match=r"measures\.json holds mood"):
        assert dataclasses.asdict(Measures.load(tmp_path)) == dataclasses.asdict(measures)


def test_a_link() -> None:
    pytest.importorskip("gradio")
    from negguide.demo.carried import from_link, to_link
    from negguide.demo.options import Options
    from negguide.demo.settings import Settings

    settings = Settings(prompt="a face", steps=3)
    text, _ = to_link(settings)
    data: dict[str, Any] = json.loads(zlib.decompress(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))))
    assert data["format"] == 1 and set(Settings.model_fields) <= set(re.findall(r"`(\w+)`", section("A link")))
    newer = zlib.compress(json.dumps({**data, "format": 2, "mood": 1}).encode())
    with pytest.warns(UserWarning, match="the link has format 2"):
        assert from_link(base64.urlsafe_b64encode(newer).decode(), Options()) == settings


@pytest.mark.parametrize("arguments", [["--json"], ["perp_neg", "--json"], ["--families", "--json"]])
def test_what_commands_print_for_programs(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", *arguments]) == 0
    data = json.loads(capsys.readouterr().out)
    words = set(re.findall(r"`(\w+)`", section("What commands print")))
    rows = [data, *data.get("methods", ()), *data.get("options", ()), *data.get("pipelines", ())]
    assert data["format"] == 1 and all(set(row) <= words for row in rows), {*data} - words


def test_answers_of_the_demo() -> None:
    pytest.importorskip("gradio")
    from negguide.demo.results import Board, Result, in_json_types
    from negguide.demo.settings import Settings

    result = Result("plain", "")
    data = in_json_types(result, Board(Settings(prompt="a face"), (result,)))
    assert data["format"] == 1 and set(data) <= set(re.findall(r"`(\w+)`", section("What commands print")))


def test_numbers_that_are_none() -> None:
    for number in (True, "one", -1, 1.5, None):
        with pytest.raises(ValueError, match="a whole number is needed"):
            formats.opened({"format": number}, (), "this")
