"""Denoiser arguments as trees: rows along any dimension, and calls that have different arguments."""

from __future__ import annotations

import pytest
import torch

from negguide.pipeline import argument_tree
from negguide.pipeline.argument_tree import ABSENT, RowLayout

LAYOUT = RowLayout(batches=("words",), shared=("ids",), axes={"layers": 1})


def call(rows: range) -> dict[str, object]:
    """Arguments in which every row is its own number."""
    numbers = torch.tensor(list(rows), dtype=torch.float32)
    return {
        "x": numbers.view(-1, 1).expand(-1, 3),
        "layers": numbers.view(1, -1, 1).expand(5, -1, 4),
        "words": [torch.full((int(n) + 1,), float(n)) for n in rows],
        "ids": torch.arange(len(rows)),
        "return_dict": False,
    }


def _rows_of(named: dict[str, object]) -> list[list[float]]:
    return [named["x"][:, 0].tolist(), named["layers"][2, :, 1].tolist(), [float(w[0]) for w in named["words"]]]  # type: ignore[index]


def test_rows_are_taken_joined_and_added_along_the_dimension_in_which_they_lie() -> None:
    whole = call(range(4))
    second = argument_tree.take(whole, slice(2, 4), 4, LAYOUT)
    assert _rows_of(second) == [[2, 3]] * 3 and second["layers"].shape == (5, 2, 4) and len(second["ids"]) == 4
    first = {**argument_tree.take(whole, slice(0, 2), 4, LAYOUT), "ids": second["ids"]}
    joined = argument_tree.join([second, first], 2, LAYOUT)
    assert _rows_of(joined) == [[2, 3, 0, 1]] * 3 and joined["layers"].shape == (5, 4, 4)
    assert _rows_of(argument_tree.extended(whole, [3, 1], 4, LAYOUT)) == [[0, 1, 2, 3, 3, 1]] * 3
    assert argument_tree.row(whole["layers"], 3, ("layers",), LAYOUT, 4).shape == (5, 4)


def test_rows_of_frames_go_with_their_image() -> None:
    layout = argument_tree.RowLayout(per_frame=("text",))
    whole = {"text": torch.arange(6.0).reshape(6, 1), "sample": torch.arange(2.0).reshape(2, 1)}
    second = argument_tree.take(whole, slice(1, None), 2, layout)
    assert second["text"].flatten().tolist() == [3, 4, 5] and second["sample"].tolist() == [[1]]
    joined = argument_tree.join([second, argument_tree.take(whole, slice(0, 1), 2, layout)], 1, layout)
    assert joined["text"].flatten().tolist() == [3, 4, 5, 0, 1, 2]
    longer = argument_tree.extended(whole, [1], 2, layout)
    assert longer["text"].flatten().tolist() == [0, 1, 2, 3, 4, 5, 3, 4, 5] and len(longer["sample"]) == 3
    assert argument_tree.row(whole["text"], 1, ("text",), layout, 2).tolist() == [3]
    assert not argument_tree.has_rows(("sample",), whole["text"], 2, layout)


def test_as_many_layers_as_rows_are_no_rows() -> None:
    named = {"layers": torch.zeros(2, 3, 4)}
    assert argument_tree.take(named, slice(0, 1), 2, LAYOUT)["layers"].shape == (2, 3, 4)
    with pytest.raises(argument_tree.Unjoinable):
        argument_tree.join([named, {"layers": torch.ones(2, 3, 4)}], 2, LAYOUT)


def test_calls_with_different_arguments_are_laid_over_each_other() -> None:
    first = {"x": 1, "text": "a", "guidance": 4.0, "more": {"mask": 1, "scale": 2}}
    second = {"x": 1, "text": "b", "control": [1, 2], "more": {"mask": 1, "ids": 3}}
    overlay = argument_tree.diff(first, second)
    assert overlay == {
        ("text",): "b",
        ("guidance",): ABSENT,
        ("control",): [1, 2],
        ("more", "scale"): ABSENT,
        ("more", "ids"): 3,
    }
    assert argument_tree.overlaid(first, overlay) == second
    assert argument_tree.overlaid(second, argument_tree.diff(second, first)) == first
    assert argument_tree.at(first, ("control",)) is ABSENT and argument_tree.at(second, ("control", 1)) == 2


def test_positions_of_tokens_are_no_rows_whatever_their_number() -> None:
    named = {"image_rotary_emb": (torch.zeros(2, 4), torch.zeros(2, 4))}
    assert [part.shape[0] for part in argument_tree.take(named, slice(0, 1), 2, RowLayout())["image_rotary_emb"]] == [
        2,
        2,
    ]
    assert [part.shape[0] for part in argument_tree.join([named, named], 2, RowLayout())["image_rotary_emb"]] == [2, 2]
