"""The documentation: code blocks run as they stand, what is made from the code is up to date, every public name is there."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import diffusers
import families
import pytest
import torch

from negguide.methods import METHODS
from negguide.pipeline import intercept

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
PAGES = sorted(DOCS.rglob("*.md"))

ELSEWHERE = {"demo.md": "tests/test_demo_api.py"}
"""Pages whose code blocks need a server, and the tests that run them."""


def quick(name: str) -> Any:
    """A tiny pipeline of a family for which a call that says nothing about it is short and small, under its own class's name."""
    stock = families.build(name)
    usual = {**families.FAMILIES[name].arguments(), "num_inference_steps": 2, "output_type": "latent"}
    base = type(stock)

    @functools.wraps(base.__call__)
    def call(self: Any, *args: Any, **given: Any) -> Any:
        return base.__call__(self, *args, **{**usual, **given, "num_inference_steps": 2})

    pipe = type(base.__name__, (base,), {"__call__": call, "__module__": base.__module__})(**stock.components)
    pipe.set_progress_bar_config(disable=True)
    return pipe


PIPELINES = {
    "StableDiffusionXLPipeline": "sdxl",
    "DiffusionPipeline": "sdxl",
    "StableDiffusionControlNetPipeline": "controlnet",
    "ZImagePipeline": "zimage",
    "Flux2KleinPipeline": "klein",
    "WanPipeline": "wan",
}
"""What stands for a class that a page loads from the Hub."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """`from_pretrained` gives tiny pipelines, LoRA weights are random, watchers always see a hat."""

    def from_pretrained(cls: type, *args: Any, **kwargs: Any) -> Any:
        return quick(PIPELINES[cls.__name__])

    def load_lora_weights(self: Any, *args: Any, **kwargs: Any) -> None:
        peft = pytest.importorskip("peft")
        config = peft.LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False)
        self.unet.add_adapter(config, adapter_name=kwargs.get("adapter_name", "default"))

    monkeypatch.setattr(diffusers.DiffusionPipeline, "from_pretrained", classmethod(from_pretrained))
    monkeypatch.setattr(diffusers.StableDiffusionXLPipeline, "load_lora_weights", load_lora_weights)
    for module, name in (("vqa", "VisualQuestionAnswering"), ("chat", "ImageTextToText")):
        kind = getattr(import_module(f"negguide.watchers.{module}"), name)
        monkeypatch.setattr(
            kind, "__call__", lambda self, images, questions: [["hat" for _ in questions] for _ in images]
        )


def what_a_page_has() -> dict[str, Any]:
    """What the pages take as given: a pipeline, a photograph, a mask, edges and their ControlNet."""
    return {
        "photo": families.picture(),
        "mask": families.region(),
        "edges": families.picture(),
        "controlnet": None,
    }


def what_a_loop_has() -> dict[str, Any]:
    """What docs/doors.md takes as given for a loop of one's own: a UNet, and texts as it takes them."""
    pipe = families.build("sd15")
    cat, hat = (pipe.encode_prompt(text, "cpu", 1, False)[0] for text in ("a cat", "a hat"))
    size = 32 // pipe.vae_scale_factor
    return {
        "unet": pipe.unet,
        "cat_embeds": cat,
        "hat_embeds": hat,
        "scheduler": copy.deepcopy(pipe.scheduler),
        "encode": lambda text: pipe.encode_prompt(text, "cpu", 1, False)[0],
        "latents": torch.randn(1, 4, size, size),
    }


def modular(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The modular pipeline of docs/doors.md, whose calls are short; skipped where guiders have another form."""
    guiders = pytest.importorskip("test_guiders", exc_type=ImportError)
    pipe = guiders.modular()
    stock = type(pipe).__call__
    usual = families.arguments("sdxl")
    usual.pop("guidance_scale")
    monkeypatch.setattr(type(pipe), "__call__", lambda self, **given: stock(self, **{**usual, **given}))
    kind: Any = diffusers.modular_pipelines.ModularPipelineBlocks
    empty = kind.init_pipeline

    def init_pipeline(self: Any, model: str) -> Any:
        filled = empty(self)
        parts = families.build("sdxl").components
        filled.update_components(**{k: v for k, v in parts.items() if v is not None and hasattr(filled, k)})
        return filled

    monkeypatch.setattr(kind, "init_pipeline", init_pipeline)
    monkeypatch.setattr(type(pipe), "load_components", lambda self: None)
    return pipe


def blocks(page: Path) -> Iterator[str]:
    yield from PYTHON.findall(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "page",
    [page for page in [ROOT / "README.md", *PAGES] if PYTHON.search(page.read_text(encoding="utf-8"))],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_code_blocks_run_in_their_order(page: Path, hub: None, monkeypatch: pytest.MonkeyPatch) -> None:
    if page.parent == DOCS and page.name in ELSEWHERE:
        assert f'"{page.name}"' in (ROOT / ELSEWHERE[page.name]).read_text()
        return
    names = what_a_page_has()
    if page.name == "doors.md":
        names |= {**what_a_loop_has(), "pipe": modular(monkeypatch)}
    for block in blocks(page):
        missing = [name for name in families.NEWER.values() if name in block and not hasattr(diffusers, name)]
        if missing:
            continue  # a diffusers older than the model
        if "from_pretrained" not in block:
            for name in ("pipe", "video_pipe"):
                if name not in names and re.search(rf"\b{name}\b", block):
                    names[name] = quick("wan" if name == "video_pipe" else "sdxl")
        exec(compile(block, str(page), "exec"), names)
        for name in ("image", "images", "frames"):
            if isinstance(names.get(name), torch.Tensor):
                assert names[name].isfinite().all(), (page, name)
    for name in ("pipe", "video_pipe", "controlled", "img2img", "inpaint"):
        if name in names and page.name != "doors.md":
            assert not intercept.is_intercepted(names[name]), f"{page} leaves {name} attached"


def test_parts_made_from_the_code_are_up_to_date() -> None:
    from lab import site

    assert len(site.pages()) > 10
    for page in site.pages():
        text = page.read_text(encoding="utf-8")
        assert site.written(text) == text, f"{page.relative_to(ROOT)} is old; python -m lab.site writes it"


def test_every_method_has_a_page_with_a_figure() -> None:
    from lab import site
    from lab.figures import COMMANDS, FOLDER

    assert not set(METHODS) - site.shown_methods(), "a method without a page in docs/methods"
    assert {file.stem for file in FOLDER.glob("*.png")} == set(COMMANDS)


def test_the_gallery_shows_every_category_of_the_world() -> None:
    from lab import gallery
    from negguide.toybox.world.bias import CATEGORIES, CATEGORY_OF

    page = (DOCS / "gallery.md").read_text(encoding="utf-8")
    shown = re.findall(r"^<!-- gallery: (\w+) -->$", page, re.MULTILINE)
    assert shown == list(gallery.COMMANDS) and set(CATEGORIES) == set(shown) - {"compare"}
    for name in shown:
        assert gallery.file_of(name).is_file()
        prompt = gallery.COMMANDS[name][0]
        assert name == "compare" or prompt.split()[1] == name, prompt
    assert {file.stem for file in gallery.FOLDER.glob("*.png")} == set(CATEGORIES)
    negative = gallery.COMMANDS["compare"][2]
    assert CATEGORY_OF[negative] in gallery.COMMANDS["compare"][0]


def test_every_public_name_is_in_the_reference() -> None:
    text = (DOCS / "reference.md").read_text(encoding="utf-8")
    for module in ("negguide", "negguide.maths", "negguide.metrics", "negguide.processors", "negguide.watchers"):
        public = {name for name in import_module(module).__all__ if not name.startswith("__") and name != "METHODS"}
        shown = set(re.findall(rf"^::: {re.escape(module)}\.(\w+)$", text, re.MULTILINE))
        assert public <= shown, public - shown


def test_every_page_is_in_the_menu() -> None:
    yaml = pytest.importorskip("yaml")

    def files(menu: Any) -> Iterator[str]:
        for entry in menu:
            target = next(iter(entry.values())) if isinstance(entry, dict) else entry
            yield from files(target) if isinstance(target, list) else [target]

    text = re.sub(r"!!\S+", "", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    menu = set(files(yaml.safe_load(text)["nav"]))
    assert menu == {page.relative_to(DOCS).as_posix() for page in PAGES}


def _commands(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    lines = re.findall(r"^    (negguide .*)$", text, re.MULTILINE)
    fenced = re.findall(r"^```(?:bash|sh|console)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines += [
        line for block in fenced for line in block.replace("\\\n", " ").splitlines() if line.startswith("negguide ")
    ]
    return [re.split(r"\s+#", line)[0].strip() for line in lines]


@pytest.fixture(scope="module")
def known() -> Callable[[str], set[str]]:
    typer = pytest.importorskip("typer")
    from negguide.cli import app

    tree = typer.main.get_command(app)
    context = tree.make_context("negguide", [], resilient_parsing=True)

    def options(line: str) -> set[str]:
        import shlex

        command: Any = tree
        words = shlex.split(line)[1:]
        while words and hasattr(command, "get_command") and command.get_command(context, words[0]):
            command = command.get_command(context, words.pop(0))
        assert command is not tree, f"no such command: {line}"
        given = {word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word)}
        texts = {text for one in command.get_params(context) for text in (*one.opts, *one.secondary_opts)}
        return given - texts

    return options


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_their_options_exist(page: Path, known: Callable[[str], set[str]]) -> None:
    pytest.importorskip("matplotlib", reason="the laboratory's commands are shown where it is installed")
    for line in _commands(page):
        assert not known(line), line
