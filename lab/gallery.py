"""The gallery, and the picture at the top of the README: contact sheets of the bundled model, none of their seeds chosen.

python -m lab.gallery [NAMES]
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from lab.figures import ROOT, draw

FOLDER = ROOT / "docs" / "gallery"
SEEDS = ["--seeds", "0-7"]
ARMS = ["-m", "plain,negative,recommended"]

COMMANDS = {
    "compare": ["a vehicle on sand", "-n", "car"],
    "pet": ["a pet on grass", "-n", "cat", *ARMS],
    "fruit": ["a fruit in a room", "-n", "apple", *ARMS],
    "vehicle": ["a vehicle on water", "-n", "boat", *ARMS],
    "building": ["a building in snow", "-n", "house", *ARMS],
    "face": ["a face with a hat", "-n", "glasses", *ARMS],
    "plant": ["a plant at night", "-n", "flower", *ARMS],
}
"""Picture -> the words after `negguide compare`: the README's first, then one for each category of the world."""


def command(name: str) -> str:
    """The command of a picture, as one types it."""
    return shlex.join(["negguide", "compare", *COMMANDS[name], *SEEDS])


def file_of(name: str) -> Path:
    """Where a picture stands."""
    return ROOT / "docs" / "compare.png" if name == "compare" else FOLDER / f"{name}.png"


def make(name: str) -> Path:
    """Make one picture anew."""
    return draw([*COMMANDS[name], *SEEDS], file_of(name))


if __name__ == "__main__":
    for picture in sys.argv[1:] or COMMANDS:
        print(make(picture).relative_to(ROOT), "by", command(picture))
