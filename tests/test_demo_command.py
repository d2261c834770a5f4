"""The command that starts the demo says what is wrong in one line."""

from __future__ import annotations

import subprocess
import sys

import pytest

from negguide.cli import main


def test_without_gradio_the_command_says_what_to_install() -> None:
    code = "import sys; sys.modules['gradio'] = None; from negguide.cli import main; sys.exit(main(['demo']))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert run.returncode == 2 and 'pip install "negguide[demo]"' in run.stderr and "Traceback" not in run.stderr
    code = "import sys, negguide, negguide.cli, negguide.demo; sys.exit('gradio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=300).returncode == 0


def test_a_command_that_is_wrong_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["--auth", "secret"], "USER:PASSWORD"),
        (["--allow-models", "no such!"], "no folder"),
        (["--model", "x/y"], "not offered"),
    ):
        assert main(["demo", *words]) == 2
        error = capsys.readouterr().err
        assert message in error and "secret" not in error and len(error.splitlines()) == 1
