"""Files and arguments as people have them: marks, odd line ends, half characters, numbers that YAML would read otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import standin
from PIL import Image

from negguide.batch.gather import gather
from negguide.batch.measure import Measures
from negguide.batch.more import read_truth
from negguide.batch.read import PlanError, load_plan
from negguide.cli import main
from negguide.compare.run import compare
from negguide.experiment.arms import parse_arms
from negguide.experiment.models import Model
from negguide.experiment.tasks import Request, make_tasks, parse_negatives, read_prompts
from negguide.experiment.textfile import lines_of, read_text
from negguide.methods import EachImage, Negative, NegativePrompt

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-mark", "utf-16-be-mark", "utf-32"]


def encoded(text: str, encoding: str) -> bytes:
    """As editors write it; UTF-16 and 32 with their mark."""
    if encoding.endswith("-mark"):
        return ("\ufeff" + text).encode(encoding.removesuffix("-mark"))
    return text.encode(encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_files_of_every_editor_say_the_same(encoding: str, end: str, tmp_path: Path) -> None:
    lines = ["# mine", "a café on\u2028grass", "", "a car\x0bred\x85"]
    (tmp_path / "p.txt").write_bytes(encoded(end.join(lines) + end, encoding))
    assert read_prompts(tmp_path / "p.txt") == ["a café on\u2028grass", "a car\x0bred"]
    rows = [json.dumps({"prompt": text, "tag": text}, ensure_ascii=False) for text in ("a pet\u2028on grass", "a car")]
    (tmp_path / "p.jsonl").write_bytes(encoded(end.join(rows) + end, encoding))
    (tmp_path / "p.yaml").write_bytes(encoded(end.join(["prompts:", "  - {file: p.jsonl}", "  - p.txt"]), encoding))
    (tmp_path / "p.json").write_bytes(encoded('{"prompts": ["a pet"]}', encoding))
    (tmp_path / "p.toml").write_bytes(encoded('prompts = ["a pet"]', encoding))
    prompts = load_plan(tmp_path / "p.yaml").prompts
    assert [one.prompt for one in prompts] == ["a pet\u2028on grass", "a car", "a café on\u2028grass", "a car\x0bred"]
    assert prompts[0].metadata == {"tag": "a pet\u2028on grass"}
    for kind in ("json", "toml"):
        assert [one.prompt for one in load_plan(tmp_path / f"p.{kind}").prompts] == ["a pet"]


def test_other_files_have_marks_too(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "metadata.jsonl").write_bytes(
        encoded(json.dumps({"prompt": "a\u2028pet"}, ensure_ascii=False), "utf-8-sig")
    )
    assert gather(tmp_path)[0]["prompt"] == "a\u2028pet"
    record = {"file": "a.png", "negatives": ["hat"]}
    (tmp_path / "truth").write_bytes(encoded('{"file": "a.png", "shows": ["hat"]}\r\n', "utf-16"))
    read_truth(tmp_path / "truth", [record])
    assert len(record) > 2


def test_what_is_no_text_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "p.txt"
    file.write_bytes("a pet\na café\n".encode("latin-1"))
    with pytest.raises(
        ValueError, match=r"p\.txt' cannot be read: it is no UTF-8 text \(byte 0xe9 in line 2\); save it"
    ):
        read_prompts(file)
    file.write_bytes(b"\xff\xfea\x00\x00\xd8")
    with pytest.raises(ValueError, match="it is no UTF-16 text"):
        read_text(file, "the file")
    for name in ("p.yaml", "p.json", "p.toml", "p.jsonl"):
        (tmp_path / name).write_bytes(b"\xe9")
        with pytest.raises(PlanError, match="no UTF-8 text"):
            load_plan(None, {"prompts": [{"file": str(tmp_path / name)}]}) if name == "p.jsonl" else load_plan(
                tmp_path / name
            )
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read_prompts(tmp_path / "none.txt")
    assert lines_of("a\r\nb\rc\u2028d\n") == ["a", "b", "c\u2028d", ""]


@pytest.mark.parametrize("text", ["caf\udce9", "\ud83d", "a \udc00 b"])
def test_half_characters_are_refused_before_anything_is_made(text: str) -> None:
    for make in (
        lambda: Negative(text),
        lambda: Negative(("cat", text)),
        lambda: Negative(EachImage(("cat", text))),
        lambda: NegativePrompt(["cat", text]),
        lambda: make_tasks([text], []),
        lambda: make_tasks(["a pet"], [text]),
        lambda: parse_negatives(text),
        lambda: load_plan(None, {"prompts": [text]}),
        lambda: load_plan(None, {"prompts": ["a pet"], "title": text}),
        lambda: load_plan(None, {"prompts": [{"prompt": "a pet", "tag": [text]}]}),
    ):
        with pytest.raises(ValueError, match=r"half a character|lone surrogate") as told:
            make()
        assert "\n" not in str(told.value) and str(told.value).isascii()


def test_plain_numbers_of_yaml_are_what_they_look_like(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(
        "prompts: [{prompt: 1:30, day: 2024-01-02, hex: 0x1f}]\nnegatives: [010]\nmethods: perp_neg\n"
        "seeds: [010, 1]\nsteps: 012\nguidance: 1.5e1\nthreads: +4\n"
    )
    plan = load_plan(file)
    assert [plan.prompts[0].prompt, plan.negatives, plan.seeds, plan.steps] == ["1:30", ("010",), (10, 1), 12]
    assert plan.guidance == 15.0 and plan.threads == 4
    assert plan.prompts[0].metadata == {"day": "2024-01-02", "hex": "0x1f"}
    for line, message in (
        ("prompts: [12]", "12 is a number where a text is needed; put it in quotes"),
        ("prompts: [a]\nguidance: 1:30", "given: '1:30'"),
        ("prompts: [a]\nseeds: 1:30", "seeds are '1:30'"),
        ("prompts: [{prompt: a, tag: .nan}]", "metadata cannot be kept as JSON"),
    ):
        file.write_text(line)
        with pytest.raises(PlanError, match=message):
            load_plan(file)


@pytest.mark.parametrize("text", ["cat:1,5", "hat:0.5, cat:1,5", "cat:1,5@0-0.4", "cat: 1,50, hat"])
def test_decimal_commas_are_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"decimal (comma|point)"):
        parse_negatives(text)
    assert [(one.prompt, one.weight) for one in parse_negatives("cat:1, 5 hats, 7")] == [
        ("cat", 1), ("5 hats", 1), ("7", 1)
    ]  # fmt: skip


def test_newlines_in_a_prompt_and_a_folder_that_is_no_utf8(tmp_path: Path) -> None:
    pipe = standin.make_standin()
    out = tmp_path / "o\udce9"
    request = Request(
        make_tasks(["a pet\non\x0bgrass", "a car"], ["a\ncat"]), parse_arms("plain,negative"), (0,), out, steps=1
    )
    results = compare(Model("o\udce9", pipe), request)
    assert results.finished and not results.errors
    assert [comparison.prompt for comparison in results.comparisons] == ["a pet\non\x0bgrass", "a car"]
    for comparison in results.comparisons:
        with Image.open(out / str(comparison.sheet)) as sheet:
            assert sheet.width > 100
    assert json.loads((out / "results.json").read_bytes())["model"] == "o\\udce9"


def test_a_sheet_that_fails_costs_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError("no font")

    monkeypatch.setattr("negguide.compare.sheet.write_sheet", broken)
    request = Request(make_tasks(["a pet", "a car"], []), parse_arms("plain"), (0,), tmp_path, steps=1)
    with pytest.warns(UserWarning, match="contact sheet of 'a pet' could not be drawn .OSError: no font"):
        results = compare(Model("x", standin.make_standin()), request)
    assert results.finished and len(list(tmp_path.rglob("*/plain/0.png"))) == 2


def test_the_command_line_tells_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.txt").write_bytes(b"caf\xe9\n")
    for arguments in (
        ["a pet", "-n", "caf\udce9"],
        ["a \udce9"],
        ["--prompts", str(tmp_path / "p.txt")],
        ["a pet", "-n", "cat:1,5"],
    ):
        assert main(["compare", *arguments, "--out", str(tmp_path / "o")]) != 0
        told = capsys.readouterr().err.strip()
        assert told.startswith("negguide: ") and "\n" not in told and "Traceback" not in told


@pytest.mark.parametrize(
    "content",
    [
        "null",
        "[]",
        "3",
        "{}",
        "{",
        '{"means": 3}',
        '{"means": {}, "differences": {}, "groups": [{"x": 1}]}',
        '{"means": {"a": {"b": {}}}}',
    ],
)
def test_measures_that_cannot_be_loaded_say_so(content: str, tmp_path: Path) -> None:
    (tmp_path / "measures.json").write_text(content)
    with pytest.raises(ValueError):
        Measures.load(tmp_path)
    (tmp_path / "measures.json").unlink()
    with pytest.raises(OSError):
        Measures.load(tmp_path)
