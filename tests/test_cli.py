"""The command line: what it prints, its exit codes, and one clear line for everything that is wrong."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from standin import standin_folder
from typer.testing import CliRunner

import negguide
from negguide.cli import main
from negguide.commands import terminal
from negguide.commands.terminal import in_flags
from negguide.compare import Results
from negguide.engine import runner
from negguide.pipeline import guidance


def _compare(out: Path, *more: str) -> list[str]:
    return ["compare", "a pet on grass", "--model", standin_folder(), "--steps", "2", "--out", str(out), *more]


def test_compare_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("# two more\na face --no hat\n\na pet on grass\n")
    out = tmp_path / "out"
    code = main(
        _compare(out, "--prompts", str(prompts), "-n", "cat:2@0-0.5", "--seeds", "0,3", "--methods", "plain,perp_neg")
    )
    printed = capsys.readouterr()
    assert code == 0
    assert "perp_neg" in printed.out and str(out / "report.html") in printed.out
    assert "judged by: pixels" in printed.out
    results = Results.load(out)
    assert [comparison.text for comparison in results.comparisons] == [
        "a pet on grass --no cat:2@0-0.5",
        "a face --no hat, cat:2@0-0.5",
    ]
    assert len(list(out.rglob("[03].png"))) == 2 * 2 * 2
    assert len(list(out.rglob("sheet.png"))) == 2
    assert results.totals["perp_neg"]["passes"] == ((4 + 1) + (4 + 2 + 1)) / 2


def test_a_method_that_fails_gives_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def combine(self: Any, guidance: Any, state: Any) -> None:
        raise RuntimeError("no more memory")

    monkeypatch.setattr(negguide.PerpNeg, "combine", combine)
    assert main(_compare(tmp_path, "-n", "cat", "--seeds", "0", "--methods", "perp_neg,signed")) == 1
    error = capsys.readouterr().err
    assert error == "negguide: failed: perp_neg on 'a pet on grass': RuntimeError: no more memory\n"
    assert (tmp_path / "a-pet-on-grass-no-cat" / "signed" / "0.png").is_file()


def test_interrupted_gives_130(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def combine(self: Any, guidance: Any, state: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(negguide.PerpNeg, "combine", combine)
    assert main(_compare(tmp_path, "-n", "cat", "--seeds", "0", "--methods", "plain,perp_neg")) == 130
    assert "what was made stays" in capsys.readouterr().err
    assert len(Results.load(tmp_path).comparisons[0].rows[0].pictures) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "a pet", "-n", "cat", "--methods", "perpneg"], "did you mean 'perp_neg'"),
        (["compare", " ", "-n", "cat"], "the prompt ' ' is empty"),
        (["compare", "-n", "cat"], "no prompt"),
        (["compare", "a pet"], "need a negative and 'a pet' has none"),
        (["compare", "a pet", "-n", ""], "the negative '' is empty"),
        (["compare", "a pet", "-n", "cat:heavy"], "'heavy' is not a number"),
        (["compare", "a pet", "-n", "cat", "--seeds", "1,two"], "seeds are '1,two'"),
        (["compare", "a pet", "-n", "cat", "--weight", "nan"], "not a finite number"),
        (["compare", "a pet", "-n", "cat", "--weight", "-1"], "of 0 or more"),
        (["compare", "a pet", "-n", "cat", "--steps", "0"], "steps is 0"),
        (["compare", "a pet", "-n", "cat", "--steps", "many"], "--steps"),
        (["compare", "a pet", "-n", "cat", "--guidance", "inf"], "not finite"),
        (["compare", "a pet", "-n", "cat", "--size", "big"], "the size is 'big'"),
        (["compare", "a pet", "-n", "cat", "--model", "/no/such/folder"], "no folder '/no/such/folder'"),
        (["compare", "a pet", "-n", "cat", "--model", "no-such/model"], "'no-such/model' cannot be loaded"),
        (["compare", "a pet", "-n", "cat", "--model", "."], "model_index.json is missing"),
        (["compare", "a pet", "-n", "cat", "--dtype", "int3"], "float16"),
        (["compare", "a pet", "-n", "cat", "--device", "toaster"], "unknown device 'toaster'"),
        (["compare", "a pet", "-n", "cat", "--prompts", "/no/such.txt"], "prompts file"),
        (["compare", "a pet", "-n", "cat", "--stesp", "3"], "--steps"),
        (["compere"], "No such command 'compere'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "out")] if arguments[0] == "compare" else []
    assert main([*arguments, *out]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("negguide: ") and printed.err.count("\n") == 1
    assert message in printed.err


HEAVY = ("accelerate", "diffusers", "numpy", "open_clip", "pyarrow", "scipy", "torch", "transformers")


def test_what_is_wrong_is_said_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    plan, folder, file = tmp_path / "plan.yaml", tmp_path / "empty", tmp_path / "file"
    plan.write_text("prompts: [a pet --no cat]\nmethods: [plain]\nsteps: 0\nsede: 3\n")
    folder.mkdir()
    file.write_text("")
    out = str(tmp_path / "out")
    pet = ["compare", "a pet", "-n", "cat", "--out", out]
    lines = [
        ["compare", "x", "-m", "nonsense"],
        ["compere"],
        ["compare", "a pet", "--out", out],
        [*pet, "-m", "perp_neg:wieght=2"],
        [*pet, "-m", "perp_neg:weight=much"],
        [*pet, "-m", "interval:window=[0.8,0.2]"],
        [*pet, "-m", "negtome:alpha=lots"],
        [*pet, "-m", "spell:radius=-1"],
        [*pet, "--seeds", "1,two"],
        [*pet, "--steps", "0"],
        [*pet, "--steps", "many"],
        [*pet, "--size", "big"],
        [*pet, "--guidance", "inf"],
        [*pet, "--batch", "0"],
        [*pet, "--stesp", "3"],
        [*pet, "-n", "cat:heavy"],
        [*pet, "--dtype", "int3"],
        [*pet, "--model", "/no/such/folder"],
        [*pet, "--model", str(folder)],
        [*pet, "--model", "toybox/sd9"],
        [*pet, "--prompts", "/no/such.txt"],
        ["compare", "a pet", "-n", "cat", "--out", str(file / "out")],
        ["generate", str(plan), "--out", out],
        ["generate", "/no/such.yaml"],
        ["generate", "--preset", "nothing"],
        ["generate", "--prompts", "/no/such.txt", "-n", "cat"],
        ["generate", str(plan), "-m", "nonsense"],
        ["generate", str(plan), "--engine", "steam"],
        ["measure", "/no/such/folder"],
        ["measure", str(folder), "--with", "nonsense"],
        ["report", "/no/such/folder"],
        ["report", str(folder), "--export", "nonsense"],
    ]
    code = (
        "import sys; from negguide.cli import main\n"
        f"for line in {lines!r}:\n"
        "    code = main(line)\n"
        f"    heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "    assert code == 2 and not heavy, (line, code, heavy)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == len(lines), "one line each"


@pytest.mark.parametrize("library", ["typer", "yaml", "pydantic"])
def test_the_command_of_a_bare_install_says_what_to_install(library: str) -> None:
    """Importing of None in `sys.modules` fails like importing what is not there."""
    code = f"import sys; sys.modules[{library!r}] = None; from negguide.__main__ import run; run()"
    command = [sys.executable, "-c", code, "generate", "--preset", "list"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"negguide: {library} is not installed") and done.stderr.count("\n") == 1
    assert 'pip install "negguide[cli]"' in done.stderr


def test_a_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["compare", "a pet", "-n", "cat", "--out", str(tmp_path / "file" / "out")]) == 2
    assert "cannot write to the folder" in capsys.readouterr().err


def test_methods_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods"]) == 0
    text = capsys.readouterr().out
    for name, entry in negguide.METHODS.items():
        assert name in text and entry.summary in text and entry.cost in text
    assert main(["methods", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["format"] == 1
    rows = printed["methods"]
    assert [row["name"] for row in rows] == list(negguide.METHODS)
    needs = {row["name"]: row["needs"] for row in rows}
    assert needs["perp_neg"] == "negatives" and needs["apg"] == ""


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"negguide {negguide.__version__}\n"
    assert main(["compare", "--help"]) == 0
    text = capsys.readouterr().out
    assert 'negguide compare "a pet on grass" --negative cat' in text and "Exit codes" in text
    assert main(["--help"]) == 0
    assert "toybox" in capsys.readouterr().out


def test_the_laboratory_is_named_where_it_is_not_installed(monkeypatch):
    from negguide.toybox import commands

    monkeypatch.setattr(commands, "_checkout", lambda: None)
    group = typer.Typer()
    commands._add_laboratory(group)
    result = CliRunner().invoke(group, ["bench", "--jobs", "2"])
    assert result.exit_code == 2
    assert "checkout" in result.output


def test_messages_speak_the_language_of_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_compare(tmp_path, "-m", "plain,negtome", "--seeds", "0", "--batch", "1")) == 0
    told = capsys.readouterr().err
    assert "negtome: NegToMe('first') has no effect" in told and "--batch 4" in told
    assert "num_images_per_prompt" not in told and "UserWarning" not in told


def test_every_advice_of_the_engine_has_words_for_the_command_line() -> None:
    """Whatever the engine tells people to give to `attach` or to the call is translated."""
    source = Path(guidance.__file__).read_text() + Path(runner.__file__).read_text()
    advice = re.findall(r"[^\"]*guidance_scale= to attach[^\"]*", source)
    assert len(advice) >= 3
    for text in advice:
        assert "attach" not in in_flags(text.replace("{scales[0]}", "guidance_scale").replace("{above:g}", "1"))


def test_progress_is_told_in_a_log_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter(range(0, 10_000, 20))
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(clock))
    with terminal.progress_bar(10) as tell:
        for _ in range(4):
            tell("plain · a pet", 1.0)
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "negguide: 2 of 10 pictures, about 160 s left (plain · a pet)",
        "negguide: 4 of 10 pictures, about 120 s left (plain · a pet)",
    ]
