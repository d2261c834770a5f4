"""The parts of the documentation that are made from the code: `python -m lab.site` writes them into docs/, in place.

A page asks for a part by a comment, and the part stands between it and the next `<!-- end -->`:

    <!-- facts: perp_neg -->      what a method is called, costs and needs, and its options
    <!-- figure: perp_neg -->     a figure of `lab/figures.py` with the command that makes it
    <!-- gallery: pet -->        a picture of `lab/gallery.py` with the command that makes it
    <!-- names: methods -->       reference entries of the public names of a module
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

from lab import gallery
from lab.figures import arms, command
from negguide.methods import METHODS
from negguide.methods.listing import describe

DOCS = Path(__file__).resolve().parents[1] / "docs"
_PART = re.compile(
    r"(?P<head><!-- (?P<kind>facts|figure|gallery|names): (?P<what>[^>]+?) -->\n).*?(?P<tail><!-- end -->)", re.DOTALL
)


def facts(names: str) -> str:
    """What there is to know of registered methods, and their options, as tables."""
    wanted = names.split()
    rows = [describe(name) for name in wanted]
    table = ["| on the command line | in Python | denoiser passes per step | source |", "|---|---|---|---|"]
    table += [
        f"| `{row['name']}` | `negguide.{row['class']}` | {row['cost']} | {_source(row['paper'])} |" for row in rows
    ]
    options = {option["name"]: option for row in rows for option in row["options"]}
    if options:
        table += ["", "| option | what it says | possible | default |", "|---|---|---|---|"]
        table += [
            f"| `{name}` | {_cell(option['help'])} | {_cell(_possible(option))} | `{_cell(option['default'])}` |"
            for name, option in options.items()
        ]
    return "\n".join(table)


def _possible(option: dict[str, str]) -> str:
    return ", ".join(f"`{text}`" for text in option["possible"]) or option["range"]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _source(paper: str) -> str:
    if paper.startswith("arXiv:"):
        return f"[{paper}](https://arxiv.org/abs/{paper.removeprefix('arXiv:')})"
    return f"[{paper}](https://{paper})" if paper.startswith("github.com/") else paper


def figure(name: str) -> str:
    """A figure, and the command that makes it. Its address is that from `docs/methods`."""
    compared = arms(name).replace("[", "(").replace("]", ")")
    return f"![Contact sheet, from the same seeds: {compared}](figures/{name}.png)\n\n    {command(name)}"


def exhibit(name: str) -> str:
    """A picture of the gallery, and the command that makes it. Its address is that from `docs`."""
    prompt, _, negative = gallery.COMMANDS[name][:3]
    address = gallery.file_of(name).relative_to(DOCS).as_posix()
    return f"![{prompt}, without {negative}, from the same seeds]({address})\n\n    {gallery.command(name)}"


def names(module: str) -> str:
    """An entry for every public name of a module that no other module shows."""
    public = getattr(import_module(module), "__all__", ())
    return "\n\n".join(
        f"::: {module}.{name}" for name in sorted(public) if _is_entry(getattr(import_module(module), name))
    )


def _is_entry(thing: object) -> bool:
    return not isinstance(thing, ModuleType | str)


PARTS: dict[str, Callable[[str], str]] = {"facts": facts, "figure": figure, "gallery": exhibit, "names": names}


def written(text: str) -> str:
    """A page with its made parts as they should stand."""
    return _PART.sub(lambda part: f"{part['head']}\n{PARTS[part['kind']](part['what'])}\n\n{part['tail']}", text)


def pages() -> list[Path]:
    """The pages that hold a made part."""
    return [page for page in sorted(DOCS.rglob("*.md")) if _PART.search(page.read_text(encoding="utf-8"))]


def shown_methods() -> set[str]:
    """The registered methods that some page tells the facts of."""
    shown = set()
    for page in DOCS.rglob("*.md"):
        for part in _PART.finditer(page.read_text(encoding="utf-8")):
            if part["kind"] == "facts":
                shown |= set(part["what"].split())
    return shown & set(METHODS)


if __name__ == "__main__":
    for page in pages():
        old = page.read_text(encoding="utf-8")
        new = written(old)
        if new != old:
            page.write_text(new, encoding="utf-8")
            print(page.relative_to(DOCS.parent))
