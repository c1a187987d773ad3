"""Loaded into every Dask scheduler and worker by `--preload`: their pages open only with the cluster's key.

Dashboards listen on loopback, where every local user can knock. Only the gate before them (`dashboards.py`)
knows the key, and it lets the owner of the cluster in. This file runs in the notebook environment: it imports
nothing of ours.

The class is changed when this file is imported, which distributed does before its HTTP server accepts
anybody; a `dask_setup` would come after, and a failing one is only logged. Without a key nobody gets in.
"""

from __future__ import annotations

import hmac
import os
from typing import Any

from distributed.http.routing import RoutingApplication
from tornado import web

HEADER = "X-Tidehub-Dashboard-Key"
KEY_VARIABLE = "TIDEHUB_DASHBOARD_KEY"


class Refused(web.RequestHandler):
    """Answers 403 to whatever is asked."""

    def prepare(self) -> None:
        self.set_status(403)
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        self.finish("This dashboard opens only through the hub, for the owner of the cluster.\n")


def allowed(headers: Any, key: str) -> bool:
    """Whether the request carries the key; an empty key admits nobody."""
    given = headers.get(HEADER, "")
    return bool(key) and hmac.compare_digest(given.encode("utf-8", "replace"), key.encode())


def _guard(application_class: Any) -> None:
    # distributed imports a preload file twice (import, then reload).
    if getattr(application_class, "_tidehub_guarded", False):
        return
    unguarded = application_class.find_handler
    key = os.environ.get(KEY_VARIABLE, "")

    def find_handler(self: Any, request: Any, **kwargs: Any) -> Any:
        if not allowed(request.headers, key):
            return self.get_handler_delegate(request, Refused)
        return unguarded(self, request, **kwargs)

    application_class.find_handler = find_handler
    application_class._tidehub_guarded = True


_guard(RoutingApplication)
