"""The demo's page in a real browser: what a person does first, and what can go wrong. Screenshots are kept."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from demo_browser import (
    code,
    fill,
    needs_chromium,
    open_page,
    settle,
    shoot,
    unfold,
    wait_done,
)
from demo_server import Served
from PIL import Image

from negguide.demo.carried import from_link, from_png
from negguide.demo.parts import beside_names, from_rows, to_rows
from negguide.demo.pictures import from_png64

pytestmark = needs_chromium


def test_the_first_screen_shows_the_idea_and_the_slider_moves(page: Any) -> None:
    slides = page.locator("#ng-slider img")
    slides.nth(1).wait_for()
    before, after = (page.request.get(slides.nth(at).get_attribute("src")).body() for at in (0, 1))
    pictures = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in (before, after)]
    assert pictures[0].shape == pictures[1].shape == (704, 704, 3) and (pictures[0] != pictures[1]).any()
    assert page.locator(".ng-card").count() == 2
    assert page.locator(".ng-figures dt").all_inner_texts()[:5] == [
        "seconds",
        "passes",
        "Vendi",
        "similarity",
        "CLIP score",
    ]
    assert "cat present" in page.locator(".ng-presence").first.inner_text()
    about = page.locator("#ng-about").inner_text()
    assert "Toybox" in about and "only these words" in about
    evidence, slider = page.locator("#ng-results").bounding_box(), page.locator("#ng-slider").bounding_box()
    assert page.locator(".ng-presence").last.bounding_box()["y"] < 850  # the evidence is above the fold
    assert evidence["y"] < slider["y"] and slider["width"] > 500
    assert not page.problems
    shoot(page, "desktop")
    handle = page.locator("#ng-slider [role=slider], #ng-slider .outer, #ng-slider .inner").first
    handle.scroll_into_view_if_needed()
    start = handle.bounding_box()
    x, y = start["x"] + start["width"] / 2, start["y"] + start["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 120, y, steps=4)
    page.mouse.up()
    page.wait_for_function(
        """([handle, low, high]) => { const x = handle.getBoundingClientRect().x; return low < x && x < high; }""",
        arg=[handle.element_handle(), start["x"] - 160, start["x"] - 80],
    )


def test_several_methods_side_by_side_and_their_code(page: Any) -> None:
    page.locator("#ng-methods input").click()
    page.locator("#ng-methods input").fill("nag")
    page.locator("ul[role=listbox] li", has_text=re.compile("^.?\\s*nag$")).first.click()
    page.keyboard.press("Escape")
    settle(page, 11)
    labels = [text.strip() for text in page.locator(".ng-card header code").all_inner_texts()]
    assert labels == ["plain", "recommended", "nag"]
    code(page, "python", "ng.Recommended('cat')")
    page.locator("#ng-shown label", has_text="nag").click()
    code(page, "python", "ng.NAG")
    for gallery in ("#ng-guided", "#ng-plain"):
        page.locator(f"{gallery} img").nth(1).wait_for()
        assert page.locator(f"{gallery} img").count() == 2
    shoot(page, "several")
    page.locator("#ng-python button[title*=opy], #ng-python button[aria-label*=opy]").first.click()
    page.wait_for_function("async () => (await navigator.clipboard.readText()).includes('ng.attach')")
    text = page.evaluate("() => navigator.clipboard.readText()")
    assert "with ng.attach(pipe, ng.NAG('cat')):" in text and "seeds = [11, 12]" in text
    compile(text, "copied", "exec")


def test_bad_input_is_told_and_stop_stops(page: Any, server: Served) -> None:
    fill(page, "#ng-negatives", "cat:x")
    page.locator("#ng-run").click()
    alert = page.locator("#ng-status [role=alert]")
    alert.wait_for()
    assert "cat:x" in alert.inner_text() and "cannot be read" in alert.inner_text()
    assert page.locator(".ng-card").count() == 2
    page.locator("#ng-run:enabled").wait_for()
    shoot(page, "bad-input")
    fill(page, "#ng-negatives", "cat")
    unfold(page, "#ng-sampling")
    fill(page, "#ng-steps", "100")
    page.locator("#ng-run").click()
    page.wait_for_function("() => /step [1-9]/.test(document.querySelector('#ng-status').innerText)")
    job = server.engine.turns._current
    page.locator("#ng-stop").click()
    page.locator(".ng-status.ng-stopped").wait_for()
    assert "Stopped after" in page.locator("#ng-status").inner_text()
    assert job is not None and job.stopped_after <= 1 and job.steps < 300
    page.locator("#ng-run:enabled").wait_for()


def test_a_painted_mask_and_the_way_back_by_picture_and_link(
    page: Any, server: Served, browser: Any, tmp_path: Path
) -> None:
    unfold(page, "#ng-where")
    page.locator("#ng-mask-paint").click()
    canvas = page.locator("#ng-mask canvas").first
    canvas.wait_for()
    page.wait_for_timeout(2000)  # the editor fits the picture into its canvas
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 40, y - 40)
    page.mouse.down()
    page.mouse.move(x + 40, y + 40, steps=6)
    page.mouse.up()
    page.wait_for_timeout(1500)
    shoot(page, "mask")
    settle(page, 14)
    page.get_by_role("tab", name="Copy as command").click()
    code(page, "command", "--seeds 14", '"mask":{"png"')
    page.get_by_role("tab", name="Picture and link").click()
    with page.expect_download() as waiting:
        page.locator("#ng-download").click()
    file = tmp_path / "made.png"
    waiting.value.save_as(file)
    link = page.locator("#ng-link textarea, #ng-link input").first.input_value()
    assert link.startswith(server.url + "/?s=")
    mask = from_link(link.partition("?s=")[2], server.engine.options).mask
    assert mask and mask == from_png(file.read_bytes(), server.engine.options).mask
    covered = np.asarray(from_png64(mask).convert("L")) / 255
    assert 0.01 < covered.mean() < 0.5 and covered[covered.shape[0] // 2, covered.shape[1] // 2] == 1
    fill(page, "#ng-prompt", "something else")
    unfold(page, "#ng-model")
    page.locator("#ng-load input[type=file]").set_input_files(file)
    page.wait_for_function("() => document.querySelector('#ng-prompt textarea').value === 'a pet on grass'")
    page.locator("#ng-mask-clear").click()
    page.wait_for_timeout(500)
    settle(page, 15)
    page.get_by_role("tab", name="Copy as command").click()
    assert "mask" not in code(page, "command", "--seeds 15")
    other = open_page(browser, link)
    assert "seed 14" in other.locator(".ng-pictures img").first.get_attribute("alt")
    other.close()


def test_examples_run(page: Any) -> None:
    unfold(page, "#ng-sampling")
    fill(page, "#ng-steps", "5")
    page.locator("#ng-examples tr, #ng-examples button").filter(has_text="a pet in a room").first.click()
    page.wait_for_function(
        "() => document.querySelectorAll('.ng-card header code')[1]?.innerText.startsWith('adaptive')"
    )
    wait_done(page)
    page.get_by_role("tab", name="Timeline").click()
    page.locator(".ng-timeline li").first.wait_for()
    assert "saw" in page.locator(".ng-timeline li").first.inner_text()
    assert not page.problems
    shoot(page, "timeline")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_shows_it_without_scrolling_sideways(browser: Any, server: Served, theme: str) -> None:
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, device_scale_factor=2, is_mobile=True, has_touch=True
    )
    page = open_page(context, f"{server.url}/?__theme={theme}")
    page.locator("#ng-slider img").nth(1).wait_for()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 391
    colour = page.evaluate("() => getComputedStyle(document.querySelector('.ng-card')).backgroundColor")
    assert (max(map(int, re.findall(r"\d+", colour)[:3])) < 80) == (theme == "dark")
    shoot(page, f"phone-{theme}")
    context.close()


def test_the_table_of_negatives_says_the_same_as_the_words() -> None:
    words = r"cat:0.5, hat@0-0.4, a\, b:2@0.1-0.9"
    rows = to_rows(words)
    assert rows == [["cat", 0.5, 0.0, 1.0], ["hat", 1.0, 0.0, 0.4], ["a, b", 2.0, 0.1, 0.9]]
    assert (
        to_rows(from_rows(rows)) == rows
        and from_rows([["", 1, 0, 1], ["cat", "", None, 1]]) == "cat"
        and to_rows("") == []
    )
    for row, message in (
        (["cat", "x", 0, 1], "row 1.*no number"),
        (["cat", -1, 0, 1], "row 1"),
        (["cat", 1, 0.9, 0.1], "row 1"),
    ):
        with pytest.raises(ValueError, match=message):
            from_rows([row])
    assert "apg" in beside_names() and "perp_neg" not in beside_names() and "guard" not in beside_names()


def test_a_word_is_clicked_and_no_picture_is_without_words(page: Any) -> None:
    words = page.locator("#ng-words button.gallery-item")
    assert {"cat", "hat", "snow"} <= {text.strip() for text in words.all_inner_texts()}
    for expected in ("cat, hat", "cat"):  # once to say no to it, once to take that back
        words.filter(has_text=re.compile("^\\s*hat\\s*$")).click()
        page.wait_for_function(f"() => document.querySelector('#ng-negatives textarea').value === '{expected}'")
    page.wait_for_function("() => [...document.images].every(image => image.alt)")
    alts = page.eval_on_selector_all("#ng-plain img", "images => images.map(image => image.alt)")
    assert alts and all(alt.startswith(f"plain, seed {place}") for place, alt in enumerate(alts))
