"""The picture of the demo on its page: the first screen, as a browser of 1280x900 shows it when its pictures are made.

python -m lab.demo_picture

Writes docs/demo.png. Needs Chromium and the packages of the tests.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

OUT = Path(__file__).resolve().parents[1] / "docs" / "demo.png"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 180
"""Seconds that anything may take."""


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"no demo came up at {url}")


def main() -> None:
    """Start a demo, look at it, and write down what is seen."""
    from playwright.sync_api import sync_playwright

    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen([sys.executable, "-m", "negguide", "demo", "--port", str(port)])
    try:
        _wait_for(url, server)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(url, wait_until="domcontentloaded")
            page.locator(".ng-status.ng-done").wait_for(timeout=1000 * PATIENCE)
            page.locator("#ng-slider img").nth(1).wait_for()
            page.wait_for_timeout(1000)
            page.screenshot(path=OUT)
            browser.close()
    finally:
        server.terminate()
        server.wait()
    print(OUT)


if __name__ == "__main__":
    main()
