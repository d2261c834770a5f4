"""What should be known of a row beside its pictures: what was warned of while they were made, and whether anything changed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from negguide.compare.records import Row
from negguide.experiment.arms import PLAIN

NO_EFFECT = "no effect here: every picture is the plain one, pixel by pixel"


@contextmanager
def remarks_of(row: Row) -> Iterator[None]:
    """Warnings for users that come meanwhile stand in the row, once each, and are told as ever."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for warning in caught:
        text = " ".join(str(warning.message).split())
        if issubclass(warning.category, UserWarning) and text not in row.remarks:
            row.remarks.append(text)
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def is_plain(folder: Path, row: Row, first: Row) -> bool:
    """Whether a row that failed nowhere shows the pictures of the plain row before it, pixel by pixel."""
    if first.label != PLAIN or first.error or row.error or not row.pictures:
        return False
    plain = {picture.seed: picture.file for picture in first.pictures}
    return all(
        picture.seed in plain and _pixels(folder / picture.file) == _pixels(folder / plain[picture.seed])
        for picture in row.pictures
    )


def _pixels(file: Path) -> tuple[tuple[int, int], bytes]:
    with Image.open(file) as image:
        return image.size, image.convert("RGB").tobytes()
