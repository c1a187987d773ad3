"""The hub's pages that both targets serve: titles, errors with the way out and the contact, on JupyterHub's own.

`templates/site` needs JupyterHub 4 or newer and the variables `site_name`, `site_contact` and `end_words`, no others of
ours. One machine adds what only its spawner and queue can tell (`tidehub.local.hub.templates`), which extends these as
`site/NAME.html`; on Kubernetes they travel in the chart's values (`tidehub.kubernetes.values.hub_pages`).
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

TEMPLATES = Path(str(resources.files(__name__))) / "templates"
SITE = TEMPLATES / "site"


def texts() -> dict[str, str]:
    """Text of each page by the name that JupyterHub asks for: `error.html`."""
    return {page.name: page.read_text(encoding="utf-8") for page in sorted(SITE.glob("*.html"))}
