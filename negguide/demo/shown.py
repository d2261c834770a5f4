"""Which pictures of a comparison stand where on the page."""

from __future__ import annotations

from pathlib import Path

from PIL import ImageChops, ImageStat
from PIL.Image import Image

from negguide.demo.pictures import enlarged, from_png64, tinted
from negguide.demo.results import Board, Result


def pair_of(board: Board, label: str | None) -> tuple[Result, Result]:
    """Plain, and the arm of that label (the first one without)."""
    plain = board.results[0]
    others = board.results[1:] or board.results
    return plain, next((result for result in others if result.label == label), others[0])


def telling(board: Board, label: str) -> int:
    """Which picture shows best what the method did: the one that differs most from the plain one; the first without any."""
    plain, guided = pair_of(board, label)
    differences = [_difference(*pair) for pair in zip(plain.images, guided.images, strict=False)]
    return max(range(len(differences)), key=differences.__getitem__, default=0)


def _difference(picture: Image, other: Image) -> float:
    """Mean difference of two pictures of one size, per channel, 0 to 255."""
    means = ImageStat.Stat(ImageChops.difference(picture.convert("RGB"), other.convert("RGB"))).mean
    return float(sum(means) / len(means))


def first_of(result: Result) -> Image | None:
    """Its first picture, or what is to be seen of it yet."""
    return result.images[0] if result.images else result.first


def right_first(board: Board) -> Image | None:
    """What stands on the right of the slider while a comparison is made."""
    right = next((result for result in board.results[1:] if result.state == "running"), pair_of(board, None)[1])
    return first_of(right)


def slide_of(plain: Result, guided: Result, place: int) -> tuple[Image, Image] | None:
    """Both sides of the slider; None where there is no picture yet."""
    if place >= min(len(plain.images), len(guided.images)):
        return None
    return enlarged(plain.images[place]), enlarged(guided.images[place])


def present(result: Result) -> list[str]:
    """The files of its pictures, () once they are so old that they were removed."""
    return list(result.files) if all(Path(file).is_file() for file in result.files) else []


def avoided_of(pictures: list[dict[str, str]]) -> list[Image]:
    """The pictures to avoid, with what is not meant of them paled."""
    return [
        tinted(from_png64(picture["png"]), from_png64(picture["mask"]) if picture.get("mask") else None)
        for picture in pictures
    ]
