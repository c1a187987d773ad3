"""A kernel that computes keeps its server active, whether it prints something or not, and whether anybody looks or not.

Runs in the notebook server. jupyter_server 2 (`MappingKernelManager.start_watching_activity`) takes a kernel's messages
for activity, and one that computes for hours without output sends none: the hub's culler would stop its server. It
also runs in the pods of images that we did not make, with Python from 3.8 on, and imports nothing of ours.
"""

from __future__ import annotations

import os
from datetime import datetime, timezone
from typing import Any

from tornado.ioloop import PeriodicCallback

NAME = "busy_kernels"
USUAL = 300
"""Seconds between two reports of activity to the hub where nobody says (jupyterhub, `JUPYTERHUB_ACTIVITY_INTERVAL`)."""


def is_busy(manager: Any) -> bool:
    """Whether a kernel of this server runs a cell now."""
    return any(
        getattr(manager.get_kernel(kernel), "execution_state", "") == "busy"
        for kernel in manager.list_kernel_ids()
    )


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": NAME}]


def _load_jupyter_server_extension(app: Any) -> None:
    times = app.web_app.settings["last_activity_times"]

    def look() -> None:
        if is_busy(app.kernel_manager):
            times[NAME] = datetime.now(timezone.utc)

    # Twice for each report, so that none of them misses a kernel that is busy all the time.
    every = int(os.environ.get("JUPYTERHUB_ACTIVITY_INTERVAL") or USUAL) / 2
    PeriodicCallback(look, 1000 * max(0.5, every)).start()
