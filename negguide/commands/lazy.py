"""Sub-commands that are imported only when they are used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

LAZY = {"toybox": "negguide.toybox.commands"}
"""Sub-command -> module whose `app` is its typer app."""


class LazyGroup(TyperGroup):
    """A group that knows the names in `LAZY` without importing what stands behind them."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *LAZY]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in LAZY:
            return super().get_command(ctx, cmd_name)
        command = typer.main.get_group(import_module(LAZY[cmd_name]).app)
        command.name = cmd_name
        return command
