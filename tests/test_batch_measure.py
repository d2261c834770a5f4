"""Measures, tables, report and exports of a batch; its pictures are painted here, so that the numbers are known."""

from __future__ import annotations

import csv
import html.parser
import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from negguide.batch.export import export
from negguide.batch.gather import gather
from negguide.batch.measure import Measures, measure
from negguide.batch.read import load_plan
from negguide.batch.report import write_report
from negguide.batch.store import Store, labels
from negguide.batch.tables import comma_separated, markdown
from negguide.batch.units import Machine, units
from negguide.cli import main
from negguide.experiment.judges import PixelJudge, Verdict
from negguide.experiment.sampling import png
from negguide.metrics import bootstrap

BRIGHT = {"plain": (200, 180, 160), "perp_neg:weight=1": (120, 110, 60), "perp_neg:weight=2": (40, 30, 20)}
"""Brightness by method and prompt; a seed adds itself."""


class _Brightness:
    """What is bright shows the negative."""

    name = "brightness"

    def judge(self, pictures: Any, task: Any) -> Verdict:
        bright = [float(np.asarray(picture).mean()) / 255 for picture in pictures]
        scores = {"presence": sum(bright) / len(bright), "alignment": 1 - sum(bright) / len(bright)}
        notes, seen = [f"{value:.2f}" for value in bright], [value > 0.5 for value in bright]
        return Verdict(scores, notes, seen, {f"presence of {one.prompt}": bright for one in task.negatives})


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    root = tmp_path / "batch"
    plan = load_plan(
        None,
        {
            "title": "A <b> & c",
            "prompts": [{"prompt": "a pet --no cat", "tag": "t"}, "a <b>face</b> --no hat, snow", "a tree --no snow"],
            "methods": ["plain", {"use": "perp_neg", "sweep": {"weight": [1, 2]}}],
            "seeds": "0-1",
            "batch": 2,
            "output": str(root),
        },
    )
    found = list(units(plan, Machine("cpu", "float32")))
    store = Store(root, "painter")
    store.save_plan(plan)
    for unit in found:
        rows = []
        for seed in unit.seeds:
            value = BRIGHT[unit.variant.label][unit.place[0]] + seed
            row = store.put(unit, seed, png(Image.new("RGB", (8, 8), (value,) * 3), {"key": unit.key(seed)}))
            rows.append({**row, **labels(unit, seed), "methods": [], "passes": 2.0, "seconds": 0.5, "time": "1"})
        store.record(rows)
    store.merge(found)
    return root


def test_means_and_paired_differences_over_prompts(batch: Path) -> None:
    measures = measure(batch, judges=[_Brightness()])
    per_prompt = {name: [(value + 0.5) / 255 for value in values] for name, values in BRIGHT.items()}
    for label, values in per_prompt.items():
        found = measures.means[label]["presence"]
        assert found.mean == pytest.approx(sum(values) / 3) and found.cases == 3
        assert found.low is not None and found.high is not None and found.low < found.mean < found.high
        half = 4.302652729 * np.std(values, ddof=1) / 3**0.5  # Student's quantile of 2 degrees of freedom
        assert (found.low, found.high) == (pytest.approx(found.mean - half), pytest.approx(found.mean + half))
    differences = [a - b for a, b in zip(per_prompt["perp_neg:weight=2"], per_prompt["plain"], strict=True)]
    assert measures.baseline == "plain" and "plain" not in measures.differences
    found = measures.differences["perp_neg:weight=2"]["presence"]
    assert found.mean == pytest.approx(sum(differences) / 3) and found.p is not None and found.p >= 0.25
    assert measures.differences["perp_neg:weight=2"]["passes"].mean == 0
    assert measures.means["plain"]["presence of hat"].mean == pytest.approx(
        180.5 / 255
    )  # of a prompt with two negatives
    assert (measures.pictures, measures.prompts, measures.skipped) == (18, 3, [])
    assert Measures.load(batch) == measures


def test_intervals_are_those_of_drawing_cases_again() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(1, 2, 40)
    means = sorted(float(np.mean([values[rng.integers(40)] for _ in range(40)])) for _ in range(3000))
    found = bootstrap(values.tolist())
    assert found.low == pytest.approx(means[75], abs=0.1) and found.high == pytest.approx(means[2925], abs=0.1)
    assert bootstrap(values.tolist()) == found
    assert bootstrap([3.0]).low is None and bootstrap([2.0, 2.0]).low == 2.0
    with pytest.raises(ValueError, match="no values"):
        bootstrap([])


def test_the_pixel_judge_knows_alike_from_different() -> None:
    same = [Image.new("RGB", (8, 8), "red")] * 3
    assert PixelJudge().judge(same, None).scores == pytest.approx({"vendi": 1.0, "mss": 1.0})  # type: ignore[arg-type]
    halves = []
    for place in range(4):  # pictures of which no two share a bright pixel would be at cosine 0 about grey
        array = np.full((16, 16, 3), 127.5)
        array[place * 4 : place * 4 + 4] = 255
        halves.append(Image.fromarray(array.round().astype(np.uint8)))
    scores = PixelJudge().judge(halves, None).scores  # type: ignore[arg-type]
    assert scores["vendi"] == pytest.approx(4, abs=0.01) and abs(scores["mss"]) < 0.01
    assert PixelJudge().judge(same[:1], None).scores == {}  # type: ignore[arg-type]


def test_a_broken_picture_is_told_and_the_rest_is_measured(batch: Path) -> None:
    (first, *_) = gather(batch)
    (batch / first["file"]).write_bytes(b"no picture")
    measures = measure(batch, judges=[_Brightness()])
    assert measures.skipped == [f"{first['file']}: it cannot be read as a picture"]
    assert measures.pictures == 17
    assert measures.means["plain"]["presence"].mean == pytest.approx((201 + 180.5 + 160.5) / 3 / 255)


def test_the_report_holds_everything_and_loads_nothing(batch: Path) -> None:
    measure(batch, judges=[_Brightness()])
    text = write_report(batch).read_text()
    page = _Page()
    page.feed(text)
    assert page.images == 18 and page.circles >= 3
    assert page.addresses and all(address.startswith("data:") for address in page.addresses)
    assert "@import" not in text and "url(" not in text and "fetch(" not in text
    assert "<b>face</b>" not in text and "a &lt;b&gt;face&lt;/b&gt;" in text and "A &lt;b&gt; &amp; c" in text
    rows = [record for record in gather(batch) if record["label"] == "perp_neg:weight=2"]
    assert all(f"--only {row['key'][:12]} --out again" in text for row in rows)
    assert text.count("presence of hat 0.") == 6, "what was measured on each picture"
    ticks = [float(tick) for tick in re.findall(r">(\d+)%</text>", text)]
    assert ticks and all(tick % 5 == 0 for tick in ticks), "round numbers on the axes"
    assert text.count('class="shows"') == 6 and 'data-text="a tree --no snow"' in text
    assert text.count('<small class="better">') == 0, "three prompts prove nothing"
    short = write_report(batch, pictures=7).read_text()
    assert short.count("<img ") == 6 and "2 more prompts" in short


def test_tables_are_those_of_the_measures(batch: Path) -> None:
    measures = measure(batch, judges=[_Brightness()])
    head, _, *lines = markdown(measures).splitlines()
    assert head.startswith("| method | negative present ↓ |") and [
        line.split(" | ")[0][2:] for line in lines[:3]
    ] == list(BRIGHT)
    assert "*" not in "".join(lines[:3]), "three prompts prove nothing"
    rows = list(csv.DictReader(io.StringIO(comma_separated(measures))))
    (row,) = [row for row in rows if row["method"] == "perp_neg:weight=1" and row["score"] == "presence"]
    assert float(row["mean"]) == measures.means["perp_neg:weight=1"]["presence"].mean
    assert float(row["difference high"]) < 0


def test_a_report_needs_measures(batch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(batch)]) == 2
    assert "run negguide measure" in capsys.readouterr().err


def test_geneval_folders(batch: Path) -> None:
    out = export(batch, "geneval")
    folder = out / "perp_neg-weight=2" / "00000"
    assert json.loads((folder / "metadata.jsonl").read_text()) == {"tag": "t", "prompt": "a pet"}
    values = [np.asarray(Image.open(folder / "samples" / f"{place:04d}.png"))[0, 0, 0] for place in range(2)]
    assert values == [40, 41]
    assert Image.open(folder / "grid.png").size == (16, 8)
    assert len(list(out.glob("*/*/samples/*.png"))) == 18


def test_webdataset_tar(batch: Path) -> None:
    first = export(batch, "webdataset").read_bytes()
    assert export(batch, "webdataset").read_bytes() == first
    with tarfile.open(fileobj=io.BytesIO(first)) as tar:
        names = tar.getnames()
        assert len(names) == 18 * 3 and names[0].endswith(".png")
        about = json.loads(tar.extractfile(names[2]).read())  # type: ignore[union-attr]
        assert about["label"] == "plain" and about["seed"] == 0 and about["format"] == 1
        assert tar.extractfile(names[1]).read() == b"a pet"  # type: ignore[union-attr]


def test_any_folder_can_be_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for method, colours in (("mine", ("red", "blue")), ("theirs", ("red", "red"))):
        for place, colour in enumerate(colours):
            file = tmp_path / method / "one" / f"{place}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), colour).save(file)
            file.with_suffix(".txt").write_text("a patch\n")
    assert main(["measure", str(tmp_path), "--baseline", "theirs"]) == 0
    printed = capsys.readouterr().out
    assert "mine" in printed and "judged by: pixels" in printed
    measures = Measures.load(tmp_path)
    assert measures.means["theirs"]["vendi"].mean == pytest.approx(1)
    assert measures.differences["mine"]["vendi"].mean > 0.5
    assert (tmp_path / "summary.md").is_file() and main(["report", str(tmp_path)]) == 0


def test_where_the_prompts_of_foreign_pictures_come_from(tmp_path: Path) -> None:
    def paint(name: str, **text: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(Image.new("RGB", (4, 4)), text))
        return file

    paint("a/ours.png", prompt="a pet")
    paint("a/webui.png", parameters="a face\nNegative prompt: hat\nSteps: 20, Seed: 1")
    paint("b/00000/samples/0000.png")
    paint("b/00000/grid.png")
    (tmp_path / "b" / "00000" / "metadata.jsonl").write_text('{"tag": "x", "prompt": "a tree"}\n')
    paint("c/plain.png")
    found = {record["file"]: record for record in gather(tmp_path, negatives=["cat"])}
    assert {file: record["prompt"] for file, record in found.items()} == {
        "a/ours.png": "a pet",
        "a/webui.png": "a face",
        "b/00000/samples/0000.png": "a tree",
        "c/plain.png": "",
    }
    assert found["a/ours.png"]["text"] == "a pet --no cat" and found["a/ours.png"]["label"] == "a"
    with pytest.raises(ValueError, match="no picture is in"):
        gather(tmp_path / "b" / "00000" / "none")


class _Page(html.parser.HTMLParser):
    """What a page shows and loads."""

    def __init__(self) -> None:
        super().__init__()
        self.images = self.circles = 0
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.images += tag == "img"
        self.circles += tag == "circle"
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "action") and value]
