"""What mkdocs does beside itself: links that lead out of docs/ go to the repository."""

from __future__ import annotations

import posixpath
import re
from typing import Any

_LINK = re.compile(r"(\]\()(?!https?:|#)([^)\s]+)(\))")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Links to files beside docs/, which a reader of the repository can follow, as addresses that a reader of the site can."""
    folder = posixpath.dirname(f"docs/{page.file.src_uri}")

    def whole(link: re.Match[str]) -> str:
        path, hash_, anchor = link[2].partition("#")
        target = posixpath.normpath(posixpath.join(folder, path)) if path else ""
        if not path or target.startswith("docs/"):
            return link[0]
        return f"{link[1]}{config['repo_url']}/blob/main/{target}{hash_}{anchor}{link[3]}"

    return _LINK.sub(whole, markdown)
