"""Inputs of a node from what the options of a method mean: ranges, defaults and tooltips are said once, in the method."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from comfy_api.latest import io

from negguide.methods.base import Window
from negguide.methods.options import Option, default_of, option_of, options_of, possible_texts, types_of

Negatives = io.Custom("NEGGUIDE_NEGATIVES")
"""The type of the socket that carries `comfyui.negatives.Entry` in a chain."""

CATEGORY = "negguide"
"""Where the nodes stand in the menu."""

EMPTY = -1
"""What stands for "empty" in a number whose range begins at 0: ComfyUI's number fields are never empty."""

_GREATEST, _GREATEST_WHOLE = 100.0, 2**31 - 1
_WINDOW = ("start", "stop", "window_unit")


def inputs_of(config: type, leave_out: Sequence[str] = (), defaults: Mapping[str, Any] | None = None) -> list[Any]:
    """The inputs of the options of a method or other dataclass, in the order of its fields.

    Args:
        config: the dataclass.
        leave_out: names of options that the node does not offer, or brings itself.
        defaults: values that differ from those of the fields, e.g. those for UNets where the field leaves it to the family.
    """
    inputs: list[Any] = []
    parts = types_of(config)
    for field in dataclasses.fields(config):
        if field.name not in leave_out:
            default = (defaults or {}).get(field.name, default_of(field))
            inputs += _inputs(field.name, parts[field.name], default, option_of(field))
    return inputs


def options_from(config: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the inputs -> options of the method: windows put together again, "empty" numbers None."""
    options: dict[str, Any] = {}
    meanings = options_of(config)
    for name, types in types_of(config).items():
        if name in values:
            can_be_empty = type(None) in types and meanings[name].low > EMPTY
            empty = can_be_empty and not isinstance(values[name], str) and values[name] == EMPTY
            options[name] = None if empty else values[name]
        elif Window in types and _WINDOW[0] in values:
            options[name] = window_from(values)
    return options


def window_inputs(window: Window, help: str) -> list[Any]:
    """Start, stop and unit of a window."""
    start, stop, unit = _WINDOW
    more = "progress: fractions of the steps of this run, from 0 to 1; sigma: noise levels, which fall."
    greatest = 1000.0  # SDXL begins at sigma 14.6, models of zero terminal SNR far above
    return [
        io.Float.Input(
            start, default=window.start, min=0.0, max=greatest, step=0.01, tooltip=f"{help} Where it begins. {more}"
        ),
        io.Float.Input(
            stop, default=window.stop, min=0.0, max=greatest, step=0.01, tooltip=f"{help} Where it ends. {more}"
        ),
        io.Combo.Input(unit, options=["progress", "sigma"], default=window.unit, tooltip=f"Unit of the window. {more}"),
    ]


def window_from(values: Mapping[str, Any]) -> Window:
    """The window of these inputs; `ValueError` says what is wrong with it."""
    return Window(*(values[name] for name in _WINDOW))


def _inputs(name: str, types: Sequence[Any], default: Any, meaning: Option) -> list[Any]:
    tip = meaning.help
    if Window in types:
        return window_inputs(default, tip)
    if texts := possible_texts(meaning, types):
        return [io.Combo.Input(name, options=list(texts), default=default, tooltip=tip)]
    if bool in types:
        return [io.Boolean.Input(name, default=default, tooltip=tip)]
    if float not in types and int not in types:
        raise TypeError(f"no input is known for option {name!r}; leave it out, or bring it in the node")
    kind, step = (io.Float, 0.001) if float in types else (io.Int, 1)
    greatest = _GREATEST if kind is io.Float else _GREATEST_WHOLE
    low = meaning.low + step if meaning.above else max(meaning.low, -greatest)
    high = meaning.high - step if meaning.below else min(meaning.high, greatest)
    if default is None:
        default = low = EMPTY
        tip = tip.replace("empty:", f"{EMPTY}:").replace("Empty:", f"{EMPTY}:")
    number = float if kind is io.Float else int
    return [kind.Input(name, default=number(default), min=number(low), max=number(high), step=step, tooltip=tip)]
