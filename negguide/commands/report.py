"""`negguide report`: the page of a batch, and other layouts of its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from negguide.commands.addresses import as_folder
from negguide.commands.terminal import one_line

Folder = Annotated[str, typer.Argument(help="A folder or an address that was measured.")]
Pictures = Annotated[int, typer.Option(help="At most so many pictures are embedded.", min=0)]
Pixels = Annotated[
    int | None,
    typer.Option(
        help="Of an embedded picture's longer side; 512, or 256 where there are many.", min=16, show_default=False
    ),
]
Exports = Annotated[
    list[str] | None,
    typer.Option(
        "--export", help="geneval (folders as its evaluation reads them) or webdataset (a tar); repeat for both."
    ),
]


def report(folder: Folder, pictures: Pictures = 2000, pixels: Pixels = None, export: Exports = None) -> None:
    """Write the report again: one HTML file that holds everything and opens from disk.

    It shows thumbnails where there are many pictures; beside the batch's folder its viewer shows the pictures themselves.
    """
    with one_line():
        report_and_tell(folder, export or [], pictures, pixels)


def report_and_tell(
    place: str, exports: Sequence[str] = (), pictures: int | None = None, pixels: int | None = None
) -> None:
    """Write the page and the exports, and say where they lie."""
    from negguide.batch.export import EXPORTS, export
    from negguide.batch.report import PICTURES, write_report

    for name in exports:
        if name not in EXPORTS:
            raise ValueError(f"unknown export {name!r}; possible: {', '.join(EXPORTS)}")
    with as_folder(place) as folder:
        typer.echo(str(write_report(folder, PICTURES if pictures is None else pictures, pixels)))
        for name in exports:
            typer.echo(str(export(folder, name)))
