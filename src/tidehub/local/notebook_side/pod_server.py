"""What a notebook server loads in a pod on Kubernetes, where the image is not ours: a Jupyter server extension.

It takes what the image has the programs for, and nothing that goes wrong here keeps a server from starting. Classic
notebook servers (`NotebookApp`, the default of JupyterHub 1 in an image) load it as well. It imports nothing of ours.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

NAME = "pod_server"
PARTS = {
    "busy_kernels": ("_load_jupyter_server_extension", ()),
    "dask_dashboards": (
        "load_on_kubernetes",
        ("dask_gateway", "dask_labextension", "jupyter_server", "jupyter_server_proxy"),
    ),
}
"""Each file beside this one to what starts it, and to the packages without which it has nothing to do."""


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": NAME}]


def _load_jupyter_server_extension(app: Any) -> None:
    settings = app.web_app.settings
    if settings.get(NAME):  # nbclassic 0.x loads what is enabled for the classic server once more
        return
    settings[NAME] = True
    for part, (start, packages) in PARTS.items():
        here = Path(__file__).with_name(f"{part}.py").exists()
        if not here or not all(importlib.util.find_spec(package) for package in packages):
            continue
        try:
            getattr(importlib.import_module(part), start)(app)
        except Exception:
            app.log.warning("tidehub: %s does not work in this image", part, exc_info=True)


load_jupyter_server_extension = _load_jupyter_server_extension
