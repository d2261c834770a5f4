"""Foreign pictures of all kinds are seen as they are meant, any number of them in little memory, and shown in a small page."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image, features

from negguide.batch import report
from negguide.batch.gather import look_into
from negguide.batch.measure import measure
from negguide.batch.report import write_report
from negguide.experiment.html import data_uri
from negguide.experiment.judges import Verdict
from negguide.experiment.pictures import Pictures, open_picture
from negguide.metrics import mss, novelty, vendi

RAMP = np.linspace(0, 1, 16)


def _values(file: Path) -> np.ndarray:
    image = open_picture(file)
    assert image is not None and image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("a.png", (RAMP * 65535).astype(np.uint16)),
        ("a.tif", (RAMP * 65535).astype(np.uint16)),
        ("i.tif", (RAMP * 65535).astype(np.int32)),
        ("f.tif", RAMP.astype(np.float32)),
        ("f255.tif", (RAMP * 255).astype(np.float32)),
    ],
)
def test_pictures_of_more_bits_keep_their_greys(tmp_path: Path, name: str, pixels: np.ndarray) -> None:
    file = tmp_path / name
    Image.fromarray(np.tile(pixels, (4, 1))).save(file)
    seen = _values(file)
    for channel in range(3):
        assert np.abs(seen[0, :, channel] - RAMP * 255).max() <= 1
    loaded = data_uri(file, bare=True)
    assert loaded is not None and loaded[0].startswith("data:image/png")


def test_photographs_stand_upright(tmp_path: Path) -> None:
    lying = Image.new("RGB", (8, 4), "black")
    lying.paste("white", (0, 0, 2, 4))  # the left edge, which is the top when it is turned by 90 degrees
    exif = Image.Exif()
    exif[0x0112] = 6
    lying.save(tmp_path / "a.png", exif=exif)
    seen = _values(tmp_path / "a.png")
    assert seen.shape == (8, 4, 3) and seen[:2].min() == 255 and seen[2:].max() == 0
    loaded = data_uri(tmp_path / "a.png", bare=True)
    assert loaded is not None and loaded[1:] == (4, 8)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white_and_shows_no_hidden_colours(tmp_path: Path, mode: str) -> None:
    picture = Image.new("RGBA", (4, 4), (200, 200, 200, 255))
    picture.paste((90, 90, 90, 0), (0, 0, 2, 4))  # a colour that nobody sees
    file = tmp_path / "a.png"
    if mode == "P":
        palette = Image.new("P", (4, 4), 1)
        palette.putpalette([90, 90, 90, 200, 200, 200])
        palette.paste(0, (0, 0, 2, 4))
        palette.save(file, transparency=0)
    else:
        picture.convert(mode).save(file)
    seen = _values(file)
    assert (seen[:, :2] == 255).all() and (seen[:, 2:] == 200).all()


def test_every_format_is_read_and_what_is_not_is_told(tmp_path: Path) -> None:
    picture = Image.new("RGB", (16, 16), (250, 10, 10))
    endings = ["png", "jpg", "jfif", "webp", "bmp", "gif", "tif", "tiff", *(["avif"] if features.check("avif") else [])]
    for ending in endings:
        picture.save(tmp_path / f"of {ending}.{ending}", format="JPEG" if ending == "jfif" else None)
    (tmp_path / "a.heic").write_bytes(b"x")
    (tmp_path / "b.HEIC").write_bytes(b"x")
    (tmp_path / "c.svg").write_text("<svg/>")
    (tmp_path / ".hidden").mkdir()
    picture.save(tmp_path / ".hidden" / "a.png")
    found = look_into(tmp_path)
    assert sorted(record["file"] for record in found.records) == sorted(f"of {ending}.{ending}" for ending in endings)
    for record in found.records:
        assert np.abs(_values(tmp_path / record["file"]).astype(int) - (250, 10, 10)).max() <= 12, record["file"]
    assert "2 .heic files are left out: convert them to .png" in found.notes
    assert "1 .svg files are left out: convert them to .png" in found.notes
    assert any(note.startswith("1 hidden pictures") for note in found.notes)
    assert set(found.notes) <= set(measure(tmp_path).notes), "the measures tell it too"


def test_a_picture_that_is_only_called_a_grid_is_measured(tmp_path: Path) -> None:
    picture = Image.new("RGB", (4, 4))
    for name in ("one/grid.png", "one/sheet.png", "two/grid.png", "two/samples/0.png", "run/prompt/sheet.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / name)
    (tmp_path / "run" / "results.json").write_text("{}")
    found = look_into(tmp_path)
    assert {record["file"] for record in found.records} == {"one/grid.png", "one/sheet.png", "two/samples/0.png"}
    assert found.notes == ("2 contact sheets (grid.png, sheet.png) are left out",)


def test_pictures_that_compare_marks_as_lost_are_left_out(tmp_path: Path) -> None:
    from negguide.experiment.sampling import png

    for seed, lost in enumerate(({}, {"lost": "adaptive lost 1 of its 3 looks (OSError)"})):
        (tmp_path / f"{seed}.png").write_bytes(png(Image.new("RGB", (4, 4)), {"prompt": "a pet", **lost}))
    found = look_into(tmp_path)
    assert [record["file"] for record in found.records] == ["0.png"] and "a watcher failed" in found.notes[0]


class _Lazy:
    """Looks at the pictures one after the other, twice."""

    name = "lazy"

    def judge(self, pictures: Any, task: Any) -> Verdict:
        values = [float(np.asarray(picture)[0, 0, 0]) for picture in pictures]
        assert values == [float(np.asarray(picture)[0, 0, 0]) for picture in pictures[:]]
        return Verdict({"presence": sum(values) / len(values)})


def test_a_large_set_is_opened_as_it_is_looked_at(tmp_path: Path) -> None:
    files = []
    for place in range(12):
        files.append(tmp_path / f"{place}.png")
        Image.new("RGB", (8, 8), (place, 0, 0)).save(files[-1])
    files[5].write_bytes(b"broken")
    pictures, broken = Pictures.readable(files, room=3 * 8 * 8 * 4)
    assert broken == [5] and len(pictures) == 11
    assert len(pictures._kept) == 4, "no more than there is room for"
    assert [picture.getpixel((0, 0))[0] for picture in pictures] == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]  # type: ignore[index]
    assert pictures[-1].getpixel((0, 0)) == (11, 0, 0) and len(pictures[2:5]) == 3
    files[7].unlink()
    with pytest.raises(OSError, match="cannot be read any more"):
        list(pictures)


MEMORY = """
import resource, sys
from pathlib import Path
from negguide.batch.measure import measure
import negguide.experiment.pictures as pictures
pictures.ROOM = 2**22
pictures.Pictures.readable.__func__.__defaults__ = (2**22,)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
measures = measure(Path(sys.argv[1]))
print(measures.pictures, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_a_folder_of_large_pictures_is_measured_in_little_memory(tmp_path: Path) -> None:
    for place in range(40):  # 12 MiB each once they are decoded
        Image.new("RGB", (2048, 2048), (place, 0, 0)).save(tmp_path / f"{place}.png")
    done = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, check=True)
    count, grown = map(int, done.stdout.split())
    assert count == 40 and grown < 240, "as a whole they would take 480 MiB"


def test_many_features_are_measured_without_a_matrix_of_all_pairs() -> None:
    rows = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
    unit = torch.nn.functional.normalize(rows.double(), dim=1)
    kernel = unit @ unit.T
    shares = torch.linalg.eigvalsh(kernel / 300)
    expected = math.exp(-sum(float(s) * math.log(float(s)) for s in shares if s > 1e-12))
    assert vendi(rows) == pytest.approx(expected, rel=1e-9)
    off = (float(kernel.sum()) - 300) / (300 * 299)
    assert mss(rows) == pytest.approx(off, abs=1e-12)
    others = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    best = (unit @ torch.nn.functional.normalize(others.double(), dim=1).T).max(1).values
    assert novelty(rows, others) == pytest.approx(float(1 - best.mean()), abs=1e-12)
    many = torch.randn(4_000, 16, generator=torch.Generator().manual_seed(2))
    assert 15 < vendi(many) <= 16 and abs(mss(many)) < 0.01


def test_measures_have_no_column_for_each_negative(tmp_path: Path) -> None:
    for place in range(30):
        file = tmp_path / "plain" / f"{place}.png"
        file.parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), (place, 0, 0)).save(file)
        file.with_suffix(".txt").write_text(f"a thing {place} --no item{place}")

    class Each:
        name = "each"

        def judge(self, pictures: Any, task: Any) -> Verdict:
            each = {f"presence of {one.prompt}": [0.25] * len(pictures) for one in task.negatives}
            return Verdict({"presence": 0.25}, ["seen"] * len(pictures), [False] * len(pictures), each)

    measure(tmp_path, judges=[Each()])
    table = pyarrow.parquet.read_table(tmp_path / "measures.parquet")
    names = {"picture", "model", "method", "prompt", "tag", "measure", "note", "seed", "value"}
    assert set(table.column_names) == names
    rows = table.to_pylist()
    assert [row["value"] for row in rows if row["measure"] == "presence of item7"] == [0.25]
    assert sum(row["measure"] == "shows_negative" and row["value"] == 0 for row in rows) == 30
    assert sum(row["measure"] == "note" and row["note"] == "seen" for row in rows) == 30


def test_a_page_of_many_large_pictures_is_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    soft = Image.fromarray(rng.integers(0, 255, (24, 24, 3), np.uint8)).resize((1024, 1024), Image.Resampling.BICUBIC)
    for place in range(6):
        soft.rotate(place).save(tmp_path / f"a b{place}.jpg")
    measure(tmp_path)
    few = write_report(tmp_path).read_text()
    monkeypatch.setattr(report, "ROOM", 6 * report.A_PICTURE - 1)
    many = write_report(tmp_path).read_text()
    assert write_report(tmp_path, pixels=512).read_text() == few
    assert few.count("data:image/webp") == many.count("data:image/webp") == 6
    assert len(many) < len(few) and (len(many) - 60_000) / 6 < 16_000, "2000 of them: about 30 MB, not 300"
    assert many.count('data-whole="a%20b') == 6, "the viewer finds the pictures themselves beside the page"
    assert 'width="1024" height="1024"' in many
