"""The spawner as Python for `hub.extraConfig`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidehub.login.carried import modules_text

ENTRY = "0-tidehub-homes"
"""Its name in `hub.extraConfig`."""
_MODULE = "kubernetes.homes.spawner"


def finds_homes(hub: Any) -> bool:
    """Whether a hub with these values, the chart's section `hub`, finds homes by what exists."""
    given = hub if isinstance(hub, Mapping) else {}
    own = ((given.get("config") or {}).get("JupyterHub") or {}).get("spawner_class")
    return not own and bool((given.get("extraConfig") or {}).get(ENTRY))


def spawner_text() -> str:
    """Takes the place of the chart's spawner, and of no other: one of the site's own stays."""
    head = modules_text([])
    return (
        "# Users' homes are found by what exists. Made by tidehub.\n"
        f"{head}"
        'if c.JupyterHub.get("spawner_class") == "kubespawner.KubeSpawner":\n'
        f"    {modules_text([_MODULE]).removeprefix(head)}"
        f"    from tidehub.{_MODULE} import HomeFinder\n\n"
        "    c.JupyterHub.spawner_class = HomeFinder\n"
    )
