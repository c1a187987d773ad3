"""The hub's pages in the values of the jupyterhub chart: files mounted into the hub's pod, before upstream's own. Pure.

Each is an entry of `hub.extraFiles`, which the chart keeps in the hub's Secret and mounts file by file. The operator's
own templates count before ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from tidehub import hub_pages
from tidehub.errors import TidehubError
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
    ours = {f"{KEY}{name}": _file(name, text) for name, text in hub_pages.texts().items() if _has(site, name)}
    hub = values.get("hub")
    hub = hub if isinstance(hub, Mapping) else {}
    files, paths = hub.get("extraFiles") or {}, hub.get("templatePaths") or []
    if not hub or not isinstance(files, Mapping) or not isinstance(paths, (list, tuple)):
        return values
    _refuse_collisions(ours, files)
    return merge(values, {"hub": {"extraFiles": ours, "templatePaths": [*paths, FOLDER]}})


def _file(name: str, text: str) -> dict[str, str]:
    return {"mountPath": f"{FOLDER}/{name}", "stringData": text}


def _has(site: Site, name: str) -> bool:
    return name not in _NEWER or hub_chart(site) >= charts.OWN_LOGIN


def _refuse_collisions(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    for name, file in theirs.items():
        if name in ours:
            raise TidehubError(
                f"overrides.helm: hub.extraFiles has an entry {name}, which is the name of a page of tidehub's",
                expected=f"a name that does not begin with {KEY}",
                fix=_FIX,
            )
        mounted = PurePosixPath(str(file.get("mountPath") or "")) if isinstance(file, Mapping) else None
        if mounted is not None and PurePosixPath(FOLDER) in (mounted, *mounted.parents):
            raise TidehubError(
                f"overrides.helm: hub.extraFiles.{name} is mounted at {mounted}, in the directory of tidehub's pages",
                expected="a mountPath in a directory of its own",
                fix=_FIX,
            )
