"""docs/findings.md: every finding names tests that exist, or says why it is left."""

from __future__ import annotations

import re
from pathlib import Path

from test_guarantees import _tests

HERE = Path(__file__).parent
ROWS = [
    row
    for row in (HERE.parent / "docs" / "findings.md").read_text(encoding="utf-8").splitlines()
    if row.startswith("| ") and not row.startswith("| |")
]


def test_every_finding_names_tests_that_exist_or_a_reason() -> None:
    assert len(ROWS) >= 60
    for row in ROWS:
        number, finding, cell = (part.strip() for part in row.strip("|").split(" | "))
        named = re.findall(r"`tests/(test_\w+\.py)::(\w+)`", cell)
        assert number and finding
        assert named or re.match(r"(left|kept|open)\b.*: \w", cell), f"neither a test nor a reason: {row}"
        for file, name in named:
            assert name in _tests(HERE / file), f"{file} has no {name}"


def test_every_numbered_finding_is_there() -> None:
    numbers = {number.strip() for row in ROWS for number in row.strip("|").split(" | ")[0].split(",")}
    assert {f"BUG {at}" for at in range(1, 12)} | {f"A{at}" for at in range(1, 16)} <= numbers
