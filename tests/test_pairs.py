"""Pairs with and without a thing: which are kept and why, what is written, and that a pair is one seed."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from negguide.cli import main
from negguide.experiment.arms import parse_arms
from negguide.experiment.judges import Verdict
from negguide.experiment.tasks import Task
from negguide.methods import Negative
from negguide.pairs.make import Pair, pairs, said, verdict_on
from negguide.pairs.write import save

THERE, GONE, LOST = (Image.new("RGB", (4, 4), (grey,) * 3) for grey in (200, 100, 0))


class _Greys:
    """Bright pictures show the thing, black ones have lost the subject."""

    name = "greys"

    def judge(self, pictures: Any, task: Any) -> Verdict:
        (grey,) = (int(np.asarray(picture)[0, 0, 0]) for picture in pictures)
        return Verdict({"subject": float(grey > 0)}, shows_negative=[grey > 150])


@pytest.mark.parametrize(
    ("with_it", "without", "wanted"),
    [
        (THERE, GONE, (True, "hat is in the one and not in the other, the subject in both")),
        (GONE, GONE, (False, "hat is not in the picture that should have it")),
        (THERE, THERE, (False, "hat is still there")),
        (THERE, LOST, (False, "the subject is gone in the picture without hat")),
    ],
)
def test_a_pair_is_kept_for_a_reason(with_it: Image.Image, without: Image.Image, wanted: tuple[bool, str]) -> None:
    assert verdict_on([_Greys()], "a face", Negative("hat"), with_it, without) == wanted


def test_without_a_judge_nothing_is_kept() -> None:
    kept, reason = verdict_on([], "a face", Negative("hat"), THERE, GONE)
    assert not kept and reason == "no judge can say whether hat is there"


@pytest.mark.parametrize(
    ("thing", "wanted"),
    [("hat", "a face with a hat"), ("umbrella", "a face with an umbrella"), ("glasses", "a face with glasses"),
     ("a red hat", "a face with a red hat"), ("orange fur", "a face with orange fur")],
)  # fmt: skip
def test_captions_are_words(thing: str, wanted: str) -> None:
    assert said("{prompt} with {thing}", "a face", thing) == wanted


def pair(number: int, kept: bool) -> Pair:
    return Pair(
        "a face", "hat", number, THERE, GONE, "a face with a hat", "a face without a hat", kept, f"reason {kept}"
    )


def test_what_is_written(tmp_path: Path) -> None:
    counts = save((pair(number, number != 1) for number in range(3)), tmp_path, ("datasets", "webdataset"))
    assert counts == {"kept": 2, "reason False": 1}
    lines = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert [(row["pair"], row["seed"], row["format"]) for row in lines] == [(0, 0, 1), (2, 2, 1)]
    (rejected,) = (json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines())
    assert rejected["reason"] == "reason False" and (tmp_path / rejected["with"]).is_file()
    for row in lines:
        for name, picture in (("with", THERE), ("without", GONE)):
            with Image.open(tmp_path / row[name]) as image:
                assert np.array_equal(np.asarray(image), np.asarray(picture)) and image.info["seed"] == str(row["seed"])
    rows = [json.loads(line) for line in (tmp_path / "metadata.jsonl").read_text().splitlines()]
    assert [(row["text"], row["hard_negative"], row["shows"], row["pair"]) for row in rows[:2]] == [
        ("a face with a hat", "a face without a hat", True, 0),
        ("a face without a hat", "a face with a hat", False, 0),
    ]
    assert all((tmp_path / row["file_name"]).is_file() for row in rows) and len(rows) == 4
    with tarfile.open(tmp_path / "pairs.tar") as tar:
        names = tar.getnames()
        assert names == [f"{at:06d}.{end}" for at in (0, 2) for end in ("with.png", "without.png", "json")]
        told = json.load(io.BytesIO(tar.extractfile(names[2]).read()))  # type: ignore[union-attr]
        assert told["caption_with"] == "a face with a hat" and told["thing"] == "hat" and told["format"] == 1


def test_every_seed_has_its_pair_whatever_a_call_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five seeds, two in a call: thing by thing, seed by seed; only the second picture is made by the methods."""
    calls: list[tuple[str, int, list[int]]] = []

    def made(model: Any, settings: Any, prompt: str, methods: Any, seeds: list[int], tell: Any) -> Any:
        calls.append((prompt, len(methods), seeds))
        return SimpleNamespace(images=[THERE if not methods else GONE for _ in seeds])

    monkeypatch.setattr("negguide.pairs.make.make", made)
    model: Any = None
    settings: Any = None
    tasks = [Task("a face", (Negative("hat"), Negative("beard"))), Task("a pet", (Negative("hat"),))]
    found = list(
        pairs(model, tasks, range(5), *parse_arms("negative"), [_Greys()], settings, batch=2, say="{prompt}, {thing}")
    )
    told = [(pair.prompt, pair.thing, pair.seed) for pair in found]
    things = [("a face", "hat"), ("a face", "beard"), ("a pet", "hat")]
    assert told == [(*names, seed) for names in things for seed in range(5)]
    assert all(pair.kept and pair.with_it is THERE and pair.without is GONE for pair in found)
    assert calls[:4] == [
        ("a face, a hat", 0, [0, 1]),
        ("a face", 1, [0, 1]),
        ("a face, a hat", 0, [2, 3]),
        ("a face", 1, [2, 3]),
    ]


def test_the_command_makes_pairs_of_one_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On the Toybox: "a face with a hat", with and without; the first picture is the plain one of its seed."""
    options = ["--say", "{prompt} with {thing}", "--seeds", "0-2", "--steps", "6", "-o", str(tmp_path / "out")]
    assert main(["pairs", "a face --no hat", *options]) == 0
    printed = capsys.readouterr()
    rows = [
        json.loads(line)
        for name in ("pairs.jsonl", "rejected.jsonl")
        if (tmp_path / "out" / name).exists()
        for line in (tmp_path / "out" / name).read_text().splitlines()
    ]
    kept = sum(row["kept"] for row in rows)
    assert len(rows) == 3 and f"{kept} of 3 pairs kept" in printed.out
    assert printed.err.count("left out") == len({row["reason"] for row in rows if not row["kept"]})
    command = ["compare", "a face with a hat", "-m", "plain", "--seeds", "0-2", "--steps", "6", "--no-judge"]
    assert main([*command, "-o", str(tmp_path / "plain")]) == 0
    for row in rows:
        (plain,) = (tmp_path / "plain").rglob(f"plain/{row['seed']}.png")
        with Image.open(plain) as one, Image.open(tmp_path / "out" / row["with"]) as other:
            assert np.array_equal(np.asarray(one), np.asarray(other))
        with Image.open(tmp_path / "out" / row["without"]) as image:
            assert not np.array_equal(np.asarray(image), np.asarray(Image.open(tmp_path / "out" / row["with"])))
    assert main(["pairs", "a face --no hat", "-o", str(tmp_path / "out")]) == 2
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a face"], "give --negative TEXT"),
        (["a face", "-m", "cads"], "has no thing to be with and without"),
        (["a face --no hat", "-m", "plain"], "one is needed that takes a thing out"),
        (["a face --no hat", "-m", "nag,perp_neg"], "one is needed"),
        (["a face --no hat", "--export", "csv"], "possible: webdataset, datasets"),
        (["a face --no hat", "--caption-with", "a hat"], "leaves the prompt out"),
    ],
)
def test_what_cannot_be_is_told(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pairs", *arguments, "-o", str(tmp_path)]) == 2
    assert says in " ".join(capsys.readouterr().err.split())
