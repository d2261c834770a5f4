"""Text as people have it: files with byte order marks and any line end, and one clear line for what is no text."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, with whose mark it begins
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: Path, what: str) -> str:
    """The text of a file in UTF-8, or in UTF-16 or UTF-32 with their mark, without the mark.

    Args:
        path: The file.
        what: What it is, for the message, e.g. "the prompts file".

    Raises:
        ValueError: If it cannot be opened or is no such text; the message names the line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{what} {str(path)!r} cannot be read: {error.strerror or error}") from error
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{what} {str(path)!r} cannot be read: it is no {encoding.removesuffix('-sig').upper()} text (byte "
            f"0x{data[error.start]:02x} in line {line}); save it as UTF-8"
        ) from error


def lines_of(text: str) -> list[str]:
    """The lines of a text. Only line feed and carriage return end one: `str.splitlines` also cuts at U+2028 and others,
    which stand inside texts pasted from web pages (and, unescaped, inside valid JSON).
    """
    return re.split(r"\r\n|\r|\n", text)


def one_line(text: str) -> str:
    """The text with single spaces where it had line ends and other white space, for places that show one line."""
    return " ".join(text.split())


def printable(text: str) -> str:
    r"""The text with `\udce9` and the like written out, for names of files that are no UTF-8 and have to stand in one."""
    return text.encode(errors="backslashreplace").decode()
