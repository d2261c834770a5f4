"""The command line: help can be copied, and what cannot be done is one line, not a traceback."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from negguide.cli import main


@pytest.mark.parametrize(
    ("command", "text"),
    [("generate", "{prompt: a face, negatives: [hat]}"), ("measure", '"shows": [negatives]')],
)
def test_help_keeps_its_brackets(
    command: str, text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert main([command, "--help"]) == 0
    assert text in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["toybox", "render", "/dev/null/s.png"], "cannot be written"),
        (["demo", "--port", "99999999"], "65535"),
        (["demo", "--host", "999.1.1.1"], "try 127.0.0.1"),
        (["compare", "a pet", "-n", "cat", "-m", "plain+perp_neg"], "name it alone"),
        (["compare", "a pet", "-n", "cat", "--seeds", "0-99999999999"], "too many or too large"),
    ],
)
def test_what_cannot_be_done_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) in (1, 2)
    error = capsys.readouterr().err
    assert message in error and error.startswith("negguide: ") and len(error.splitlines()) == 1


PLANS = [
    (page.name, plan)
    for page in sorted((Path(__file__).parent.parent / "docs").glob("*.md"))
    for plan in re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
]


def test_every_plan_of_the_pages_is_accepted_as_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.jsonl").write_text(json.dumps({"prompt": "a face", "negatives": ["hat"]}) + "\n")
    tried = 0
    for page, plan in PLANS:
        if not re.search(r"^(methods|prompts):", plan, re.M):
            continue  # yaml of something else
        Path("plan.yaml").write_text(plan.replace("org/model", "toybox/sd3"), encoding="utf-8")
        assert main(["generate", "plan.yaml", "--dry-run"]) == 0, (page, capsys.readouterr().err)
        tried += 1
    assert tried >= 1


def test_what_fails_everywhere_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", "a pet", "-n", "cat", "--size", "8", "--steps", "2", "--seeds", "0", "-m", "plain,perp_neg,nag"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.count("guidance is not supported") == 1 and "plain, perp_neg, nag on" in error
