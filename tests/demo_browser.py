"""The demo's page in a real browser, for tests: fixtures, and what a hand does. Screenshots are kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from demo_server import Served, served

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here; on Debian: apt-get install chromium")
SCREENSHOTS = Path(os.environ.get("NEGGUIDE_SCREENSHOTS", "out/screenshots"))
ARGUMENTS = ["--no-sandbox", "--disable-renderer-backgrounding", "--disable-backgrounding-occluded-windows"]
PATIENCE = 120_000
"""Milliseconds that anything may take, on a slow and busy machine."""


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served() as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield made
        made.close()


@pytest.fixture
def page(browser: Any, server: Served) -> Iterator[Any]:
    context = browser.new_context(
        viewport={"width": 1280, "height": 1000}, permissions=["clipboard-read", "clipboard-write"]
    )
    found = open_page(context, server.url)
    yield found
    context.close()


def open_page(context: Any, url: str) -> Any:
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.goto(url, wait_until="domcontentloaded")
    page.locator("#ng-run").wait_for()
    wait_done(page)
    return page


def wait_done(page: Any) -> None:
    page.locator(".ng-status.ng-done").wait_for()


def shoot(page: Any, name: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def fill(page: Any, where: str, text: str) -> None:
    """Type it, and again if the page puts its own value back (see `unfold`)."""
    field = page.locator(f"{where} textarea, {where} input").first
    for _ in range(20):
        field.fill(text)
        page.wait_for_timeout(300)
        if field.input_value() == text:
            return
    raise AssertionError(f"{where} does not keep {text!r}")


def settle(page: Any, seed: int) -> None:
    """A run with a new seed, from the click to its end."""
    unfold(page, "#ng-sampling")
    fill(page, "#ng-seed", str(seed))
    page.locator("#ng-run").click()
    page.wait_for_function(f"() => document.querySelector('.ng-pictures img')?.alt.includes('seed {seed}')")
    wait_done(page)


def unfold(page: Any, accordion: str) -> None:
    """Open an accordion and wait a little: gradio builds what it holds then, and sets its values a few frames later."""
    button = page.locator(f"{accordion} > button")
    if "open" not in (button.get_attribute("class") or ""):
        button.click()
        for _ in range(3):
            page.wait_for_timeout(100)
            page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def code(page: Any, which: str, *parts: str) -> str:
    """What a box of code says, its spaces made one each, once it holds all these parts (or fails to in a while)."""
    box = page.locator(f"#ng-{which} .cm-content")
    box.wait_for(state="attached")
    found = ""
    for _ in range(200):
        found = " ".join(box.inner_text().split())
        if all(part in found for part in parts):
            return found
        page.wait_for_timeout(100)
    raise AssertionError(f"the box of {which} lacks some of {parts}: {found}")
