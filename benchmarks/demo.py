"""The demo in figures: seconds to the first picture in a real browser, twenty requests at once, steps after Stop.

    python benchmarks/demo.py [--out out/demo.json]

Starts the server as `negguide demo` does, in a process of its own. Exits with 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from gradio_client import Client  # type: ignore[import-untyped]
from PIL import Image

from negguide import formats

FIRST_PICTURE, STEPS_AFTER_STOP, AT_ONCE = 10.0, 1, 20


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/demo.json"))
    parser.add_argument("--steps", type=int, default=25, help="steps of each of the requests at once")
    arguments = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.perf_counter()
    server = subprocess.Popen(
        [sys.executable, "-m", "negguide.cli", "demo", "--port", str(port)], stdout=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait(server, port)
        found: dict[str, Any] = {"server_up_seconds": time.perf_counter() - began, "load_average": load_average()}
        found |= first_picture(url) | at_once(url, arguments.steps) | stopping(url)
    finally:
        server.terminate()
        server.wait()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(formats.stamped(found), indent=2))
    for name, value in found.items():
        print(
            f"{name.replace('_', ' ')}: {value:.2f}"
            if isinstance(value, float)
            else f"{name.replace('_', ' ')}: {value}"
        )
    missed = [
        name
        for name, fine in (
            ("first picture", (found["first_picture_seconds"] or 0) < FIRST_PICTURE),
            ("at once", found["answered"] == found["own_picture"] == AT_ONCE),
            ("stop", found["steps_after_stop"] <= STEPS_AFTER_STOP),
        )
        if not fine
    ]
    print(f"bars missed: {', '.join(missed)}" if missed else "all bars reached")
    sys.exit(bool(missed))


def wait(server: subprocess.Popen[bytes], port: int) -> None:
    """Until the server listens."""
    while True:
        if server.poll() is not None:
            raise SystemExit("the server ended before it listened")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)


def first_picture(url: str) -> dict[str, float | None]:
    """From opening the page to the first picture in the slider, and to a new comparison after a click; None without a browser."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        return {"first_picture_seconds": None, "new_picture_seconds": None}
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(300_000)
        began = time.perf_counter()
        page.goto(url, wait_until="domcontentloaded")
        page.locator("#ng-slider img").first.wait_for()
        first = time.perf_counter() - began
        page.locator(".ng-status.ng-done").wait_for()
        page.locator("#ng-sampling > button").click()
        page.wait_for_timeout(1500)  # gradio builds what it holds now, and sets its values a few frames later
        page.locator("#ng-seed input").fill("123")
        began = time.perf_counter()
        page.locator("#ng-run").click()
        page.wait_for_function("() => document.querySelector('.ng-pictures img')?.alt.includes('seed 123')")
        new = time.perf_counter() - began
        browser.close()
    return {"first_picture_seconds": first, "new_picture_seconds": new}


def at_once(url: str, steps: int) -> dict[str, float | int]:
    """Requests of that many people at once, each compared with the picture that its seed gives alone."""
    clients = [Client(url, verbose=False) for _ in range(AT_ONCE)]

    def ask(at: int) -> tuple[float, bytes]:
        began = time.perf_counter()
        file = clients[at].predict(
            "a pet on grass", "cat", "plain", 1000 + at, steps, None, "toybox", api_name="/generate"
        )[0]
        return time.perf_counter() - began, pixels(file)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(ask, range(AT_ONCE)))
    own = sum(pixels_of_seed(1000 + at, steps) == picture for at, (_, picture) in enumerate(answers))
    seconds = [one for one, _ in answers]
    return {
        "answered": len(answers),
        "own_picture": own,
        "median_wait_seconds": float(np.median(seconds)),
        "longest_wait_seconds": max(seconds),
    }


def pixels(file: str) -> bytes:
    """The pixels of a picture's file."""
    with Image.open(file) as image:
        return image.convert("RGB").tobytes()


def pixels_of_seed(seed: int, steps: int) -> bytes:
    """What the stock pipeline makes of a seed, without the demo."""
    import torch

    from negguide.toybox.load import PIPELINES, load_pipeline

    pipe: Any = PIPES.setdefault("sd", load_pipeline())
    noise = torch.Generator().manual_seed(seed)
    scale = PIPELINES["sd"].guidance_scale
    image = pipe("a pet on grass", num_inference_steps=steps, guidance_scale=scale, generator=[noise]).images[0]
    return bytes(image.convert("RGB").tobytes())


PIPES: dict[str, Any] = {}


def stopping(url: str) -> dict[str, int]:
    """Steps that the denoiser still makes after Stop has been answered."""
    from negguide.demo.engine import Engine
    from negguide.demo.options import Options
    from negguide.demo.settings import make_settings

    del url  # what the denoiser does can be seen from inside only
    engine = Engine(Options())
    settings = make_settings({"steps": 100, "count": 1, "methods": []}, engine.options)
    job = engine.submit(settings, "me", "mine")
    while job.steps < 3:
        time.sleep(0.01)
    asked_at = job.steps
    engine.turns.stop("mine")
    while not job.done:
        time.sleep(0.01)
    engine.close()
    return {"stopped_at_step": asked_at, "steps_after_stop": job.stopped_after}


def load_average() -> float:
    """How busy the machine is beside this."""
    import os

    return os.getloadavg()[0]


if __name__ == "__main__":
    main()
