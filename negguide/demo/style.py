"""How the page looks: colours, fonts, the style sheet."""

from __future__ import annotations

from pathlib import Path

import gradio as gr


def css() -> str:
    """The style sheet of the page."""
    return (Path(__file__).parent / "templates" / "page.css").read_text(encoding="utf-8")


def head() -> str:
    """What stands in the head of the page: what the style sheet cannot reach (gradio keeps it inside its own box), and a script."""
    script = (Path(__file__).parent / "templates" / "page.js").read_text(encoding="utf-8")
    narrow = "@media (max-width: 640px) { .gradio-container .main.app { padding-inline: 8px !important; } }"
    accent = ".gradio-container { --color-accent: #2f5fd0; } .dark .gradio-container { --color-accent: #8fb0ff; }"
    return f"<style>{narrow} {accent} footer button {{ color: #666d78 !important; }}</style><script>{script}</script>"


def theme() -> gr.themes.Base:
    """Fonts of the system, nothing from the network."""
    fonts = ["system-ui", "-apple-system", "Segoe UI", "sans-serif"]
    mono = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]
    base = gr.themes.Base(primary_hue="blue", neutral_hue="stone", font=fonts, font_mono=mono, radius_size="lg")
    return base.set(
        body_background_fill="#fbfaf8",
        body_background_fill_dark="#15171b",
        block_background_fill="#ffffff",
        block_background_fill_dark="#1d2026",
        button_primary_background_fill="#2f5fd0",
        button_primary_background_fill_hover="#274fae",
        button_primary_text_color="#ffffff",
    )
