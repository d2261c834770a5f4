"""What to install where a library that a command needs is not there."""

from __future__ import annotations

EXTRAS = {"dreamsim": "judges", "gradio": "demo", "ray": "ray", "torch_fidelity": "judges", "torchmetrics": "judges"}
"""Library -> the extra of negguide that brings it; `cli` brings what else the commands need."""


def missing(error: ModuleNotFoundError) -> str | None:
    """One line that says what to install for a library that is not there; None where a part of negguide itself is missing."""
    library = (error.name or "").partition(".")[0]
    if library in ("", "negguide"):
        return None
    extra = EXTRAS.get(library, "cli")
    return f'negguide: {library} is not installed, which the command line needs: pip install "negguide[{extra}]"'
