"""Which pictures of a comparison stand where on the page."""

from __future__ import annotations

from typing import Any

from negguide.demo.pictures import enlarged, from_png64, tinted
from negguide.demo.results import Board, Result


def pair_of(board: Board, label: str | None) -> tuple[Result, Result]:
    """Plain, and the arm of that label (the first one without)."""
    plain = board.results[0]
    others = board.results[1:] or board.results
    return plain, next((one for one in others if one.label == label), others[0])


def telling(board: Board, label: str) -> int:
    """Which picture shows best what the method did: the first that lost the negative, else the first."""
    plain, guided = pair_of(board, label)
    pairs = enumerate(zip(plain.shows, guided.shows, strict=False))
    return next((at for at, (before, after) in pairs if before and not after), 0)


def first_of(result: Result) -> Any:
    """Its first picture, or what is to be seen of it yet."""
    return result.images[0] if result.images else result.first


def right_first(board: Board) -> Any:
    """What stands on the right of the slider while a comparison is made."""
    right = next((one for one in board.results[1:] if one.state == "running"), pair_of(board, None)[1])
    return first_of(right)


def slide_of(plain: Result, guided: Result, place: int) -> Any:
    """Both sides of the slider; None where there is no picture yet."""
    if place >= len(plain.images):
        return None
    right = guided.images[place] if place < len(guided.images) else plain.images[place]
    return enlarged(plain.images[place]), enlarged(right)


def avoided_of(known: list[dict[str, Any]]) -> list[Any]:
    """The pictures to avoid, with what is not meant of them paled."""
    return [tinted(from_png64(one["png"]), from_png64(one["mask"]) if one.get("mask") else None) for one in known]
