"""The demo: a page, an API and MCP tools over the same functions as the command line. Needs `pip install "negguide[demo]"`.

Only `page`, `api`, `handlers` and `server` know gradio; the rest is plain Python.
"""

from negguide.demo.options import Options

__all__ = ["Options"]
