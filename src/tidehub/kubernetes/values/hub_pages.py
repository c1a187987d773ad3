"""The hub's pages in the values of the jupyterhub chart: files mounted into the hub's pod, before upstream's own. Pure.

The operator's own templates count before ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidehub import hub_pages
from tidehub.kubernetes.values.extra_files import Files, with_files
from tidehub.kubernetes.values.merge import merge
from tidehub.site import charts
from tidehub.site.charts import hub_chart
from tidehub.site.model import Site

FOLDER = "/usr/local/etc/tidehub/pages"
"""Where they are in the hub's pod."""
KEY = "tidehub-page-"
"""What the names of ours begin with in `hub.extraFiles`."""
_NEWER = frozenset(["accept-share.html"])
"""Pages that JupyterHub has from 5 on."""
_FIX = "mount your pages in a directory of your own and name it in hub.templatePaths: it counts before tidehub's pages"


def with_pages(site: Site, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The chart's values, which the site's own words are in already, with the pages that its hub can extend.

    Raises `TidehubError` where `overrides` mount other files in their place. Values of another shape than the chart
    takes stay as they are: its schema refuses them.
    """
    if hub_chart(site) < charts.PAGES:
        return values
    hub = values.get("hub")
    paths = (hub.get("templatePaths") or []) if isinstance(hub, Mapping) else None
    if not hub or not isinstance(paths, (list, tuple)):
        return values
    texts = {f"{FOLDER}/{name}": text for name, text in hub_pages.texts().items() if _has(site, name)}
    found = with_files(values, Files("hub", texts, FOLDER, KEY, "the pages of tidehub", _FIX))
    return found if found is values else merge(found, {"hub": {"templatePaths": [*paths, FOLDER]}})


def _has(site: Site, name: str) -> bool:
    return name not in _NEWER or hub_chart(site) >= charts.OWN_LOGIN
