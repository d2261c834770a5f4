"""The contact sheet: one row per method, one column per seed, on one picture."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from negguide.compare.records import Comparison
from negguide.experiment.files import write
from negguide.experiment.textfile import one_line

NAME = "sheet.png"
GAP, TITLE, HEAD, LABEL = 6, 58, 26, 190
TILE, ENLARGED = 256, 128
"""Larger pictures are shown at `TILE` pixels; tiny ones enlarged to at least `ENLARGED`, smoothly."""

INK, SOFT, PAPER, ALARM = (24, 26, 30), (110, 116, 126), (255, 255, 255), (214, 69, 65)


def write_sheet(out: Path, comparison: Comparison, seeds: list[int]) -> str | None:
    """Draw and write the sheet of a comparison; returns its place relative to `out`, None if there is no picture."""
    first = next((picture for row in comparison.rows for picture in row.pictures), None)
    if first is None:
        return None
    with Image.open(out / first.file) as image:
        width, height = tile_size(*image.size)
    size = (
        LABEL + len(seeds) * (width + GAP) + GAP,
        TITLE + HEAD + len(comparison.rows) * (height + GAP) + GAP,
    )
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    _text(draw, (GAP * 2, GAP * 2), comparison.prompt, size[0] - 4 * GAP, 17)
    without = f"without: {', '.join(comparison.negatives)}" if comparison.negatives else "no negative"
    _text(draw, (GAP * 2, GAP * 2 + 23), without, size[0] - 4 * GAP, 13, SOFT)
    for column, seed in enumerate(seeds):
        x = LABEL + column * (width + GAP)
        draw.text((x + width / 2, TITLE + HEAD / 2), f"seed {seed}", SOFT, _font(12), anchor="mm")
    for place, row in enumerate(comparison.rows):
        y = TITLE + HEAD + place * (height + GAP)
        _text(draw, (GAP * 2, y + height // 2 - 18), row.label, LABEL - 3 * GAP, 15)
        _text(draw, (GAP * 2, y + height // 2 + 3), _second_line(row.error, row.scores), LABEL - 3 * GAP, 12, SOFT)
        for picture in row.pictures:
            x = LABEL + seeds.index(picture.seed) * (width + GAP)
            with Image.open(out / picture.file) as image:
                sheet.paste(_fit(image, width, height), (x, y))
            if picture.shows_negative:
                draw.rectangle((x - 2, y - 2, x + width + 1, y + height + 1), outline=ALARM, width=3)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    file = Path(comparison.slug) / NAME
    write(out / file, buffer.getvalue())
    return file.as_posix()


def tile_size(width: int, height: int) -> tuple[int, int]:
    """How large a picture of this size stands on the sheet."""
    longest = max(width, height)
    if longest >= TILE:
        return round(width * TILE / longest), round(height * TILE / longest)
    factor = max(1, -(-ENLARGED // longest))
    return width * factor, height * factor


def _fit(image: Image.Image, width: int, height: int) -> Image.Image:
    return image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)


def _second_line(error: str | None, scores: dict[str, float]) -> str:
    if error:
        return "failed"
    parts = [f"{scores['presence']:.0%} show it"] if "presence" in scores else []
    return ", ".join([*parts, f"{scores.get('passes', 0):g} passes"])


def _text(
    draw: ImageDraw.ImageDraw,
    at: tuple[int, int],
    text: str,
    width: int,
    size: int,
    colour: tuple[int, int, int] = INK,
) -> None:
    """One line, cut with an ellipsis where it is too long. Line ends become spaces: Pillow measures single lines only."""
    font, text = _font(size), one_line(text)
    if len(text) > width:  # a letter takes more than a pixel; a mask among the options makes a label of many thousands
        text = text[:width]
    if draw.textlength(text, font) > width:
        while text and draw.textlength(text + "…", font) > width:
            text = text[:-1]
        text += "…"
    draw.text(at, text, colour, font)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
