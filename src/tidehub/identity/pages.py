"""The pages that users see, and the headers that protect them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from tornado.template import Loader

from tidehub.identity.config import origin_of

_HERE = Path(__file__).parent
STYLE = (_HERE / "static" / "style.css").read_bytes()
STYLE_TAG = f'"{hashlib.sha256(STYLE).hexdigest()[:32]}"'

JSON_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


class Pages:
    """Pages of one site below one path prefix."""

    def __init__(self, site_name: str, prefix: str, contact: str | None = None) -> None:
        self._loader = Loader(str(_HERE / "templates"), autoescape="xhtml_escape")
        self._common = {"site_name": site_name, "prefix": prefix, "contact": contact}

    def render(self, name: str, **values: Any) -> bytes:
        """The page `templates/<name>.html`; every value is escaped."""
        return self._loader.load(f"{name}.html").generate(**self._common, **values)


def page_headers(*destinations: str) -> dict[str, str]:
    """Headers of every page. `destinations` are addresses to which a form of this page may lead in the end.

    Chromium applies form-action to the redirects after a form as well.
    """
    targets = " ".join(dict.fromkeys(["'self'", *(origin_of(uri) for uri in destinations)]))
    return {
        "Content-Security-Policy": (
            f"default-src 'none'; style-src 'self'; form-action {targets}; "
            "frame-ancestors 'none'; base-uri 'none'"
        ),
        "X-Frame-Options": "DENY",
        "X-Content-Type-Options": "nosniff",
        # "no-referrer" would make browsers send `Origin: null` with our own forms.
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
        "Cache-Control": "no-store",
    }
