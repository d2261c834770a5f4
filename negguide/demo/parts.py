"""Components of the page that are made from what the methods and the settings say of themselves."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component

from negguide.demo.controls import Control, all_controls, offered
from negguide.demo.options import Options
from negguide.demo.settings import Settings, make_settings
from negguide.experiment.tasks import describe, parse_negatives
from negguide.methods import METHODS, Negative, Window, format_prompt

HEADERS = ["negative", "weight", "from", "to"]
Key = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Panel:
    """The controls of all methods: a group for each, a component for each option."""

    groups: Mapping[str, gr.Group]
    components: Mapping[Key, Component]
    controls: Mapping[Key, Control]

    def texts(self, chosen: Sequence[str], also: Sequence[str], values: Mapping[Block, object]) -> tuple[str, ...]:
        """The arms that are set on the page, in the command line's words."""
        return tuple("+".join(self._text(name, values) for name in (first, *also)) for first in chosen)

    def _text(self, name: str, values: Mapping[Block, object]) -> str:
        from negguide.experiment.arms import format_part, make_part

        options: dict[str, object] = {}
        for key, control in self.controls.items():
            if key[0] == name and (value := control.read(values[self.components[key]])) != control.default:
                options[key[1]] = value
        return format_part(make_part(name, options))

    def updates(self, methods: Sequence[str]) -> tuple[list[str], list[str], dict[Block, object]]:
        """The other way: (chosen methods, methods beside each, values of components) for arms in words.

        `ValueError` where the page has no place for them: two arms of one method, different methods beside.
        """
        from negguide.experiment.arms import parse_parts

        parsed = [parse_parts(text) for text in methods]
        chosen = [parts[0].entry.name for parts in parsed]
        beside = {tuple(part.entry.name for part in parts[1:]) for parts in parsed}
        if len(set(chosen)) != len(chosen) or len(beside) > 1:
            raise ValueError(
                "these settings have one method twice, which the page cannot show; use the command instead"
            )
        values: dict[Block, object] = {
            component: self.controls[key].show(self.controls[key].default) for key, component in self.components.items()
        }
        for part in (part for parts in parsed for part in parts):
            for option, value in part.options.items():
                key = (part.entry.name, option)
                values[self.components[key]] = self.controls[key].show(value)
        return chosen, list(next(iter(beside), ())), values


def panel(options: Options) -> Panel:
    """Make the controls, each method's hidden until it is chosen."""
    groups, components, controls = {}, {}, {}
    for name, options_of_method in all_controls(options.watchers).items():
        with gr.Group(visible=False, elem_classes="ng-method") as groups[name]:
            gr.Markdown(
                f"**{name}** {METHODS[name].summary}" + ("" if options_of_method else " (nothing to set)"), padding=True
            )
            with gr.Row():
                for control in options_of_method:
                    key = (name, control.field)
                    controls[key], components[key] = control, component_of(control)
    return Panel(groups, components, controls)


def component_of(control: Control) -> Component:
    """The component for an option."""
    default, label = control.show(control.default), control.label
    help = control.meaning.help or None
    if control.kind == "flag":
        return gr.Checkbox(default, label=label, info=help, min_width=200)
    if control.kind == "choice":
        return gr.Dropdown(
            list(control.choices), value=default, label=label, info=help, min_width=200, allow_custom_value=False
        )
    if control.kind in ("number", "whole"):
        whole = control.kind == "whole"
        low, high = (None if math.isinf(bound) else bound for bound in (control.meaning.low, control.meaning.high))
        if low is not None and high is not None and high - low <= 10 and default is not None and not whole:
            return gr.Slider(low, high, value=default, step=0.01, label=label, info=help, min_width=200)
        shown = None if default is None else default
        return gr.Number(
            shown,
            label=label,
            info=help,
            minimum=low,
            maximum=high,
            precision=0 if whole else None,
            placeholder="the method's own" if control.optional else None,
            min_width=200,
        )
    hint = {"window": "0-0.4 or 14.6-1sigma", "texts": "texts, with commas between"}.get(control.kind)
    return gr.Textbox(default, label=label, info=help, placeholder=hint, max_lines=2, min_width=200)


def to_rows(negatives: str) -> list[list[str | float]]:
    """Negatives in words -> rows of the table. `ValueError` for what cannot be read."""
    parsed = parse_negatives(negatives) if negatives.strip() else ()
    if odd := [negative for negative in parsed if negative.window.unit != "progress"]:
        raise ValueError(f"the table holds windows in fractions only, not {describe(odd[0])}")
    return [[str(negative.prompt), negative.weight, negative.window.start, negative.window.stop] for negative in parsed]


def from_rows(rows: Sequence[Sequence[Any]]) -> str:
    """Rows of the table -> negatives in words; rows without a text are left out. `ValueError` says which row is wrong."""
    texts = []
    for at, row in enumerate(rows, 1):
        text = str(row[0] or "").strip()
        if not text:
            continue
        numbers = []
        for value, default in zip(row[1:4], (1.0, 0.0, 1.0), strict=True):
            try:
                numbers.append(default if value in (None, "") else round(float(value), 4))
            except (TypeError, ValueError) as error:
                raise ValueError(f"row {at} of the table: {value!r} is no number") from error
        try:
            texts.append(Negative(text, numbers[0], Window(numbers[1], numbers[2])))
        except ValueError as error:
            raise ValueError(f"row {at} of the table: {error}") from error
    return format_prompt("", texts).removeprefix("--no ")


def beside_names() -> list[str]:
    """Methods that can act beside any other: those that take no negatives and do not watch."""
    return [
        name
        for name, entry in METHODS.items()
        if name in offered()
        and not entry.takes_negatives
        and "watcher" not in {field.name for field in dataclasses.fields(entry.method)}
    ]


def initial(options: Options) -> Settings:
    """What the page shows first."""
    return make_settings(
        {"model": options.model, "count": min(4, options.pictures), **options.first},
        options,
    )
