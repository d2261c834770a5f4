"""The figures of the pages about methods: contact sheets of `negguide compare`, by the commands that the pages show.

python -m lab.figures [NAMES]
"""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "methods" / "figures"

COMMANDS = {
    "negative_prompt": ["a pet on grass", "-n", "cat", "-m", "plain,negative,negative:weight=1.5,signed"],
    "perp_neg": ["a pet on grass", "-n", "cat", "-m", "plain,negative:weight=1.5,perp_neg,perp_neg:weight=2"],
    "ccfg": ["a face with a hat", "-n", "glasses", "-m", "plain,signed,ccfg,ccfg:weight=2"],
    "dng": ["a pet on grass", "-n", "cat", "-m", "plain,dng:prior=0.05,dng:prior=0.3"],
    "recommended": ["a pet on grass", "-n", "cat", "-m", "plain,negative,recommended"],
    "nag": ["a pet on grass", "-n", "cat", "-m", "plain,nag:scale=2,nag:scale=3"],
    "nag-few-step": ["a pet on grass", "-n", "cat", "-m", "plain,nag", "--model", "toybox/few-step"],
    "vsf": ["a castle", "-n", "snow", "-m", "plain,vsf:scale=1,vsf:scale=2", "--model", "toybox/few-step"],
    "adaptive": ["a pet on grass", "-m", "plain,adaptive:watcher=toybox,adaptive:watcher=toybox:window=0-0.4"],
    "guard": ["a pet on grass", "-m", 'plain,guard:watcher=toybox:watch=["cat"]'],
    "surplus": ["a pet on grass", "-m", "plain,surplus:watcher=toybox,distinct:watcher=toybox"],
    "negtome": ["a pet on grass", "-m", "plain,negtome:reference=all:alpha=1.9:window=0-0.4"],
    "repulsion": ["a pet on grass", "-m", "plain,spell:radius=1.2,particle_guidance"],
    "cads": ["a pet on grass", "-m", "plain,cads:scale=0.1,cads"],
    "seed_variance": [
        "a pet on grass",
        "-m",
        "plain,seed_variance,seed_variance:share=0.8",
        "--model",
        "toybox/few-step",
    ],
    "stabilisers": ["a red apple on a table", "--guidance", "9", "-m", "plain,apg,rescale,cfg_zero_star"],
    "interval": ["a pet on grass", "-m", "plain,interval:window=0.2-1,interval:window=0-0.4"],
}
"""Figure -> the words after `negguide compare`; each with `--seeds 0-5`."""

SEEDS = ["--seeds", "0-5"]


def command(name: str) -> str:
    """The command of a figure, as one types it."""
    return shlex.join(["negguide", "compare", *COMMANDS[name], *SEEDS])


def arms(name: str) -> str:
    """The methods that a figure compares."""
    words = COMMANDS[name]
    return words[words.index("-m") + 1]


def make(name: str) -> Path:
    """Make one figure anew."""
    return draw([*COMMANDS[name], *SEEDS], FOLDER / f"{name}.png")


def draw(words: list[str], target: Path) -> Path:
    """Run `negguide compare` with these words and keep its contact sheet as `target`."""
    from negguide.cli import app

    with tempfile.TemporaryDirectory() as folder:
        app(["compare", *words, "--out", folder], standalone_mode=False)
        (sheet,) = Path(folder).glob("*/sheet.png")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(sheet, target)
    return target


if __name__ == "__main__":
    for figure in sys.argv[1:] or COMMANDS:
        print(make(figure).relative_to(ROOT), "by", command(figure))
