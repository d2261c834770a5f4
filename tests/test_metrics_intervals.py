"""Intervals hold their level, few prompts prove nothing, and many comparisons are corrected for."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from negguide.batch.gather import Gathered
from negguide.batch.measure import Measures, measure
from negguide.batch.report import write_report, write_tables
from negguide.batch.tables import comma_separated, markdown, rows_by_tag
from negguide.experiment.judges import Verdict
from negguide.metrics.intervals import LEAST, holm, rate, student

DRAWS = 400


def _errors(rng: np.random.Generator, kind: str, count: int) -> np.ndarray:
    """Differences of no effect: of means, of rates of four pictures, and lopsided ones."""
    if kind == "normal":
        return rng.normal(0, 1, count)
    if kind == "rates":
        return rng.binomial(4, 0.3, count) / 4 - rng.binomial(4, 0.3, count) / 4
    return rng.exponential(1, count) - rng.exponential(1, count)


@pytest.mark.parametrize("kind", ["normal", "rates", "lopsided"])
@pytest.mark.parametrize("count", [2, 3, 4, 6, 8, 12, 20])
def test_without_an_effect_hardly_any_difference_is_clear(kind: str, count: int) -> None:
    rng = np.random.default_rng(count)
    found = [student(_errors(rng, kind, count).tolist()) for _ in range(DRAWS)]
    clear = [one.p is not None and one.p < 0.05 and one.cases >= LEAST for one in found]
    assert np.mean(clear) <= 0.07
    assert count >= LEAST or not any(clear)
    if count >= 3 and kind == "normal":
        held = [one.low is not None and one.high is not None and one.low <= 0 <= one.high for one in found]
        assert np.mean(held) >= 0.93, "the interval itself holds its level from three prompts on"


def test_a_real_effect_is_found() -> None:
    rng = np.random.default_rng(0)
    found = [student(rng.normal(1.5, 1, 8).tolist()) for _ in range(100)]
    assert np.mean([one.p is not None and one.p < 0.05 for one in found]) > 0.8


def test_equal_values_of_few_prompts_prove_nothing() -> None:
    assert student([0.5] * 5).p == 0.0625 and student([0.5] * 6).p == 0.03125
    assert student([0.0] * 6).p == 1.0 and student([1.0]).p is None


@pytest.mark.parametrize(("truth", "pictures"), [(0.99, 96), (0.97, 20), (0.5, 40), (0.02, 60), (0.0, 30)])
def test_intervals_of_rates_hold_also_near_0_and_1(truth: float, pictures: int) -> None:
    rng = np.random.default_rng(pictures)
    held = 0
    for _ in range(DRAWS):
        shares = rng.binomial(4, truth, pictures // 4) / 4
        found = rate(shares.tolist(), [4] * (pictures // 4))
        assert found.low is not None and found.high is not None and found.low < found.high
        held += found.low <= truth <= found.high
    assert held / DRAWS >= 0.92


def test_a_rate_of_independent_pictures_is_that_of_wilson() -> None:
    from scipy.stats import binomtest

    wilson = binomtest(0, 40).proportion_ci(method="wilson")
    found = rate([0.0] * 10, [4] * 10)
    assert (found.low, found.high) == (pytest.approx(wilson.low), pytest.approx(wilson.high))
    tight, loose = rate([0.5] * 10, [10] * 10), rate([0.0, 1.0] * 5, [10] * 10)
    assert loose.high - loose.low > 2 * (tight.high - tight.low), "prompts that differ count less"  # type: ignore[operator]


def test_holm_is_that_of_its_definition() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0] and holm([]) == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight prompts: "ours" is darker by about 40 in each, "noise" now brighter and now darker."""
    rng = np.random.default_rng(3)
    for prompt in range(8):
        for method, shift in (("plain", 0), ("ours", -40 + rng.integers(-4, 4)), ("noise", rng.integers(-9, 9))):
            file = tmp_path / method / f"p{prompt}" / "0.png"
            file.parent.mkdir(parents=True)
            Image.new("RGB", (4, 4), (120 + 5 * prompt + int(shift),) * 3).save(file)
            file.with_suffix(".txt").write_text(f"a thing {prompt}")
    return tmp_path


class _Brightness:
    name = "brightness"

    def judge(self, pictures: Any, task: Any) -> Verdict:
        return Verdict({"presence": sum(float(np.asarray(one).mean()) for one in pictures) / len(pictures) / 255.5})


def test_tables_mark_what_stands_among_all_comparisons(folder: Path) -> None:
    measures = measure(folder, judges=[_Brightness()])
    lines = {line.split(" | ")[0][2:]: line for line in markdown(measures).splitlines() if line.startswith("| ")}
    assert "*" in lines["ours"] and "*" not in lines["noise"] and "*" not in lines["plain"]
    assert "Holm" in markdown(measures)
    rows = {
        row["method"]: row
        for row in csv.DictReader(io.StringIO(comma_separated(measures)))
        if row["score"] == "presence"
    }
    p = {name: float(rows[name]["p"]) for name in ("ours", "noise")}
    assert float(rows["ours"]["p (Holm)"]) == pytest.approx(2 * p["ours"])
    assert float(rows["noise"]["p (Holm)"]) == pytest.approx(max(p["noise"], 2 * p["ours"]))
    page = write_report(folder).read_text()
    assert page.count('<small class="better">') == 1 and "at least 6 prompts" in page


def test_a_measured_share_of_none_has_a_width_and_a_mean_probability_is_no_share(folder: Path) -> None:
    class Shares:
        name = "shares"

        def judge(self, pictures: Any, task: Any) -> Verdict:
            return Verdict({"presence": 0.0, "match": 1.0, "subject": 0.25})

    found = measure(folder, judges=[Shares()]).means["ours"]
    expected = rate([0.0] * 8, [1] * 8)
    assert (found["presence"].low, found["presence"].high) == (expected.low, expected.high) and expected.high > 0.3
    assert found["match"].low is not None and found["match"].low < 0.7 and found["match"].high == 1
    assert found["subject"].low == found["subject"].high == 0.25, "a quarter of one picture is no share"


@pytest.fixture
def tagged(tmp_path: Path) -> Path:
    """Two tags of seven prompts in a table of records: "ours" is darker under "dark" alone."""
    rng = np.random.default_rng(4)
    records = []
    for row in range(14):
        tag = "dark" if row < 7 else "pale & 50%"
        for method in ("plain", "ours_1"):
            value = 150 + int(rng.integers(-9, 9)) - (60 if (method, tag) == ("ours_1", "dark") else 0)
            file = f"{method}-{row}.png"
            Image.new("RGB", (4, 4), (value,) * 3).save(tmp_path / file)
            text = f"a thing {row}"
            records.append(
                {"file": file, "model": "m", "prompt": text, "text": text, "negatives": [], "label": method, "row": row,
                 "seed": 0, "metadata": {"tag": tag}}
            )  # fmt: skip
    tmp_path.joinpath("records.json").write_text(json.dumps(records))
    return tmp_path


def test_a_table_for_each_tag(tagged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = json.loads((tagged / "records.json").read_text())
    monkeypatch.setattr("negguide.batch.measure.look_into", lambda *given: Gathered(records))
    measures = Measures.load(measure(tagged, judges=[_Brightness()]).save(tagged).parent)
    assert list(measures.tags) == ["dark", "pale & 50%"] and {part.prompts for part in measures.tags.values()} == {7}

    def mean(tag: str, method: str) -> float:
        own = [r for r in records if r["metadata"]["tag"] == tag and r["label"] == method]
        return float(np.mean([np.asarray(Image.open(tagged / r["file"]), dtype=float).mean() / 255.5 for r in own]))

    for tag, part in measures.tags.items():
        for method in ("plain", "ours_1"):
            assert part.means[method]["presence"].mean == pytest.approx(mean(tag, method))
        wanted = mean(tag, "ours_1") - mean(tag, "plain")
        assert part.differences["ours_1"]["presence"].mean == pytest.approx(wanted)
    stars = {tag: rows[1][1][0].verdict for tag, rows in rows_by_tag(measures).items()}
    assert stars == {"dark": "better", "pale & 50%": ""}
    write_tables(tagged, measures)
    with (tagged / "summary-by-tag.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["score"] == "presence" and row["p"]]
    raw = {row["tag"]: float(row["p"]) for row in rows}
    held = {row["tag"]: float(row["p (Holm)"]) for row in rows}
    assert set(raw) == set(measures.tags)
    assert held["dark"] == pytest.approx(2 * raw["dark"]), "two tags are two comparisons"
    text = markdown(measures)
    assert "### dark (7 prompts)" in text and "### pale & 50% (7 prompts)" in text


def test_the_tables_as_latex(tagged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = json.loads((tagged / "records.json").read_text())
    monkeypatch.setattr("negguide.batch.measure.look_into", lambda *given: Gathered(records))
    measures = measure(tagged, judges=[_Brightness()])
    write_tables(tagged, measures)
    text = (tagged / "summary.tex").read_text()
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 4, "all, two tags, p values"
    assert r"pale \& 50\%: 7 prompts" in text and r"ours\_1 &" in text and "$^*$" in text
    assert not re.search(r"(?<!\\)[%_#]", text), "nothing that LaTeX would take for a command"
    columns = [
        len(line.split(" & ")) for line in text.splitlines() if line.endswith(r"\\") and line.startswith("method")
    ]
    bodies = [len(re.split(r"(?<!\\) & ", line)) for line in text.splitlines() if line.startswith(("plain", "ours"))]
    assert set(bodies) <= set(columns)
    p = measures.differences["ours_1"]["presence"].p
    assert p is not None and f"{p:.3f}" in text


def test_prompts_of_one_tag_have_no_tables_of_their_own(folder: Path) -> None:
    measures = measure(folder, judges=[_Brightness()])
    write_tables(folder, measures)
    assert measures.tags == {} and "###" not in markdown(measures) and not (folder / "summary-by-tag.csv").exists()
