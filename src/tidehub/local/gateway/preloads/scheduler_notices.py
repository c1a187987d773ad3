"""Loaded into every Dask scheduler by `--preload`: tells the user at the notebook what happened to their
workers.

A dask client shows every event of the topic "warn" as a Python warning, in the cell that runs. Three things
go there: what the gateway tells (`POST /tidehub/notice`, behind the dashboard's key), workers that their
nanny ended because of memory, and, as a note below `KilledWorker`, how much memory the dead worker was last
seen with. This file runs in the notebook environment: it imports nothing of ours.
"""

from __future__ import annotations

import json
from typing import Any

from dask.utils import format_bytes
from distributed import scheduler as scheduler_module
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.protocol import pickle
from tornado import web

ROUTE = "/tidehub/notice"
NANNY_TOPIC = "worker-restart-memory"
"""The topic under which distributed's nanny reports that it ended a worker (worker_memory.py, 2026.8)."""
TOPIC = "tidehub"
"""`client.get_events("tidehub")` gives what was told before the client connected."""
NEARLY = 0.7
"""From this share of its limit on, a dead worker's last reading is called near the limit."""


def tell(scheduler: Any, text: str) -> None:
    """Show `text` as a warning to every connected client, and keep it for later ones."""
    scheduler.log_event(TOPIC, text)
    scheduler.log_event("warn", {"message": pickle.dumps(text), "category": pickle.dumps(UserWarning)})


class MemoryWords(SchedulerPlugin):  # type: ignore[misc]
    """Remembers which workers ended because of memory, and says so."""

    name = "tidehub-memory-words"

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.limits: dict[str, int] = {}

    def add_worker(self, scheduler: Any, worker: str) -> None:
        # Kept beyond the worker's end: the nanny's event may arrive after it.
        self.limits[worker] = scheduler.workers[worker].memory_limit
        while len(self.limits) > 10_000:
            self.limits.pop(next(iter(self.limits)))

    def log_event(self, topic: str, msg: Any) -> None:
        if topic != NANNY_TOPIC or not isinstance(msg, dict):
            return
        limit = self.limits.get(str(msg.get("worker")))
        size = f" of {_size(limit)}" if limit else ""
        used = f" (it used {_size(msg['rss'])})" if "rss" in msg else ""
        tell(
            self.scheduler,
            f"A Dask worker came near its memory limit{size}{used} and was restarted; what it was computing is tried "
            "again. Choose a larger worker_memory, or smaller chunks.",
        )


def _size(size: int) -> str:
    """As the platform says it elsewhere: 384 MiB, not 384.00 MiB."""
    return str(format_bytes(size)).replace(".00 ", " ")


def _note(worker: Any) -> str | None:
    limit = getattr(worker, "memory_limit", 0)
    used = (getattr(worker, "metrics", None) or {}).get("memory", 0)
    if not limit:
        return None
    near = "near" if used >= NEARLY * limit else "below"
    return (
        f"Seen from the platform: the last worker was {near} its memory limit when last measured "
        f"({_size(used)} of {_size(limit)}); a sudden need for more is not measured. If workers ran out "
        "of memory, a warning above says so. Choose a larger worker_memory, or smaller chunks."
    )


def _explain_killed_worker(error_class: Any) -> None:
    if getattr(error_class, "_tidehub_explained", False):
        return
    plain = error_class.__init__

    def __init__(self: Any, task: Any, last_worker: Any, allowed_failures: Any) -> None:
        plain(self, task, last_worker, allowed_failures)
        note = _note(last_worker)
        if note:
            self.add_note(note)

    error_class.__init__ = __init__
    error_class._tidehub_explained = True


class NoticeHandler(web.RequestHandler):
    """Takes `{"text": ...}` from the gateway. The dashboard guard has checked the key before this is reached."""

    def initialize(self, scheduler: Any) -> None:
        self.scheduler = scheduler

    def post(self) -> None:
        tell(self.scheduler, str(json.loads(self.request.body)["text"]))
        self.set_status(204)


_explain_killed_worker(scheduler_module.KilledWorker)


def dask_setup(scheduler: Any) -> None:
    """Called by distributed when the scheduler has started."""
    scheduler.http_application.add_handlers(".*$", [(ROUTE, NoticeHandler, {"scheduler": scheduler})])
    scheduler.add_plugin(MemoryWords(scheduler), name=MemoryWords.name)
