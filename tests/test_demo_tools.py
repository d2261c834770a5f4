"""The demo's folded tools in a real browser: the table of negatives, pictures to avoid, the bundled models."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from demo_browser import code, needs_chromium, settle, shoot, unfold
from PIL import Image

from negguide.demo.parts import to_rows

pytestmark = needs_chromium


def _choose(page: Any, where: str, text: str) -> None:
    field = page.locator(f"{where} input").first
    field.click()
    field.fill(text)
    page.locator("ul[role=listbox] li", has_text=text).first.click()
    page.keyboard.press("Escape")


def wait_in_table(page: Any, text: str) -> None:
    """Until a cell of the table of negatives holds just this."""
    page.wait_for_function(
        """text => [...document.querySelectorAll('#ng-table [role=gridcell]')]
            .some(cell => (cell.querySelector('input')?.value ?? cell.innerText).trim() === text)""",
        arg=text,
    )


def test_the_table_and_the_words_follow_each_other(page: Any) -> None:
    unfold(page, "#ng-more")
    cells = page.locator("#ng-table [role=gridcell]")
    cells.first.wait_for()
    words = page.locator("#ng-negatives textarea")
    words.click()
    words.press("End")
    page.keyboard.type(":0.5, hat@0-0.4", delay=40)
    wait_in_table(page, "0.4")
    cells.filter(has_text="0.5").first.dblclick()
    page.keyboard.press("Control+a")
    page.keyboard.type("0.75")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('#ng-negatives textarea').value.includes('cat:0.75')")
    shoot(page, "table")
    settle(page, 21)
    code(page, "python", "seeds = [21", "ng.Recommended([('cat', 0.75), ng.Negative('hat', 1, ng.Window(0, 0.4))])")


def test_the_table_catches_up_with_a_fast_hand_and_a_slow_server(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(words: str) -> list[list[Any]]:
        time.sleep(0.4)
        return to_rows(words)

    monkeypatch.setattr("negguide.demo.view.to_rows", slowly)
    unfold(page, "#ng-more")
    page.locator("#ng-table [role=gridcell]").first.wait_for()
    page.locator("#ng-negatives textarea").click()
    page.locator("#ng-negatives textarea").press("End")
    page.keyboard.type(":0.5, hat@0-0.4", delay=40)
    wait_in_table(page, "0.4")


def test_a_picture_to_avoid_reaches_the_method(page: Any, tmp_path: Path) -> None:
    drop = tmp_path / "avoid.png"
    Image.fromarray(np.full((64, 64, 3), (200, 40, 40), np.uint8)).save(drop)
    unfold(page, "#ng-avoid")
    page.locator("#ng-avoid input[type=file]").first.set_input_files(drop)
    page.wait_for_timeout(2000)  # the editor fits the picture into its canvas
    page.locator("#ng-avoid-add").click()
    page.locator("#ng-avoided img").first.wait_for()
    shoot(page, "avoid")
    _choose(page, "#ng-methods", "negtome")
    settle(page, 22)
    labels = [text.strip() for text in page.locator(".ng-card header code").all_inner_texts()]
    assert labels == ["plain", "recommended", "negtome"]
    page.locator("#ng-shown label", has_text="negtome").click()
    code(page, "python", '"method": "negtome"', '"picture": {"png": "iVBOR')


@pytest.mark.parametrize("model", ["toybox/few-step", "toybox/sd3"])
def test_the_other_bundled_models(page: Any, model: str) -> None:
    unfold(page, "#ng-model")
    _choose(page, "#ng-choose-model", model)
    _choose(page, "#ng-methods", "perp_neg")
    settle(page, 23)
    cards = page.locator(".ng-card")
    assert cards.count() == 3 and "perp_neg" in cards.nth(2).inner_text()
    needs_guidance = ["runs without it" in cards.nth(place).inner_text() for place in range(3)]
    assert needs_guidance == [False, False, model == "toybox/few-step"]
    code(page, "python", f"load_pipeline({model.partition('/')[2]!r})")
    shoot(page, model.replace("/", "-"))
