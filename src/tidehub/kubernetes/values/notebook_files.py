"""What notebook servers on Kubernetes load of ours: files mounted into each user's pod, whatever its image. Pure.

They are those of one machine (`local/notebook_side`): a kernel that computes keeps its server, and with a gateway the
lab's Dask panel knows the user's clusters. Every Jupyter server reads `/usr/local/etc/jupyter`, wherever its Python is
(jupyter_core, `SYSTEM_CONFIG_PATH`); images keep their own configuration in `/etc/jupyter` or beside their Python. Of
the two files there that are ours, one says where the extension is and is a name that hardly anybody else takes, the
other one enables it, in the directory where each extension has a file of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from tidehub.kubernetes.values import gateway
from tidehub.kubernetes.values.extra_files import Files, with_files
from tidehub.site.model import Site

FOLDER = "/usr/local/etc/tidehub/notebook"
"""Where the programs are in a user's pod."""
CONFIG = "/usr/local/etc/jupyter"
KEY = "tidehub-notebook-"
"""What the names of ours begin with in `singleuser.extraFiles`."""
_ALWAYS = ("pod_server.py", "busy_kernels.py")
_WITH_GATEWAY = ("dask_clusters.py", "dask_dashboards.py")
_ENABLED = (
    ("server", "ServerApp", "jpserver_extensions"),
    ("notebook", "NotebookApp", "nbserver_extensions"),
)
"""Jupyter Server, and the classic server before it: what its files are called, who reads them, and the trait."""
_FIX = (
    "mount single files of your own, at other paths: a Jupyter server also reads jupyter_server_config.py and"
    f" jupyter_server_config.json in {CONFIG}"
)
_FOUND = f"""\
# Of tidehub: where the server extension is that jupyter_server_config.d enables.
import sys

if {FOLDER!r} not in sys.path:
    sys.path.append({FOLDER!r})
"""


def with_files_of_servers(site: Site, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The chart's values, which the site's own words are in already, with the files for its notebook servers.

    Raises `TidehubError` where `overrides` mount something in their place.
    """
    names = [*_ALWAYS, *(_WITH_GATEWAY if gateway.is_installed(site) else ())]
    source = resources.files("tidehub") / "local" / "notebook_side"
    texts = {f"{FOLDER}/{name}": (source / name).read_text(encoding="utf-8") for name in names}
    texts[f"{CONFIG}/jupyter_config.py"] = _FOUND
    for name, application, extensions in _ENABLED:
        text = json.dumps({application: {extensions: {"pod_server": True}}})
        texts[f"{CONFIG}/jupyter_{name}_config.d/tidehub-{name}.json"] = text
    return with_files(
        values, Files("singleuser", texts, FOLDER, KEY, "tidehub's files for notebook servers", _FIX)
    )
