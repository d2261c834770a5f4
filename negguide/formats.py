"""The number of the format in every file, link and picture that negguide writes, and how what others wrote is read."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from typing import Any

FORMAT = 1
"""Of results, plans, records, measures, links, and of the texts inside a PNG; docs/formats.md says what each holds."""

KEY = "format"


def stamped(data: Mapping[str, object]) -> dict[str, object]:
    """The data with the number of their format, first."""
    return {KEY: FORMAT, **data}


def opened(data: Mapping[str, Any], keys: Collection[str], what: str, stacklevel: int = 2) -> dict[str, Any]:
    """The known keys of data that a program wrote; a warning names the others, which a newer negguide may have added.

    Args:
        data: with or without the number of a format; without, it is 1.
        keys: keys that this version understands.
        what: what is read, for the warning: "the link", "results.json".
        stacklevel: as in `warnings.warn`, counted from the caller.

    Raises:
        ValueError: the number of the format is none.
    """
    number = data.get(KEY, FORMAT)
    if isinstance(number, bool) or not str(number).isdigit():
        raise ValueError(f"{what} has the format {number!r}; a whole number is needed")
    unknown = [str(key) for key in data if key not in keys and key != KEY]
    if int(number) > FORMAT:
        left = f", and leaves out {', '.join(unknown)}" if unknown else ""
        warnings.warn(
            f"{what} has format {number}, of a newer negguide; this one reads {FORMAT}{left}. "
            "pip install --upgrade negguide reads all of it",
            stacklevel=stacklevel + 1,
        )
    elif unknown:
        warnings.warn(f"{what} holds {', '.join(unknown)}, unknown here and left out", stacklevel=stacklevel + 1)
    return {key: value for key, value in data.items() if key in keys}
