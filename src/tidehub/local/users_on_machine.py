"""Users' processes as the operator sees them: who has what running, and how all of it ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tidehub.capacity.disk import Verdict, judge
from tidehub.capacity.ledger import Ledger
from tidehub.errors import TidehubError
from tidehub.local.addresses import Ports
from tidehub.local.disk_use import read_uses
from tidehub.local.front.ports import find_holder
from tidehub.local.hub.forget_tokens import forget_server_tokens
from tidehub.local.isolation import Isolation, ProcessHandle
from tidehub.local.parts import Setting
from tidehub.local.supervisor.platform import Say

ROUNDS = 3
"""How often to look again: a process that was just being started when the ledger was paused appears late."""
BETRAYED_GRACE = 5.0
"""Seconds for servers and clusters to end that talk to a stranger."""


def end_everybody(ledger: Ledger, isolation: Isolation) -> Callable[[float], Awaitable[None]]:
    """The hook that ends all notebook servers and Dask processes. It needs no part of the platform to answer."""

    async def end(grace: float) -> None:
        # What runs is written down in the table of launches. The ledger only keeps more from being started meanwhile:
        # a damaged one, or a full disk, must not keep anything running.
        with contextlib.suppress(TidehubError):
            ledger.pause()
        for _ in range(ROUNDS):
            await isolation.stop_all(grace=grace)
            if not isolation.running():
                break
        with contextlib.suppress(TidehubError):
            for reservation in ledger.processes():
                ledger.release(reservation)

    return end


def end_betrayed(ports: Ports, ledger: Ledger, isolation: Isolation, *, database: str, say: Say) -> None:
    """End what outlived both the supervisor and the holder of its ports, when somebody else has such a port now.

    Those servers and clusters would go on sending their tokens to a stranger, and may have done so: the tokens are
    taken back. `database` is the hub's. Raises `TidehubError` when that cannot be done.
    """
    running = isolation.running()

    async def end() -> None:
        await end_everybody(ledger, isolation)(BETRAYED_GRACE)

    asyncio.run(end())
    forget_server_tokens(database)
    if running:
        taken = ", ".join(
            f"port {port} ({part}) is taken" + (f" by {who}" if (who := find_holder(port)) else "")
            for part, port in ports.stolen.items()
        )
        say.warn(
            f"{taken}: servers and clusters that still ran ({len(running)}) may have sent their tokens there. They "
            "were ended, and their tokens are no longer valid; files are kept"
        )


def observe(
    setting: Setting, ledger: Ledger, isolation: Isolation
) -> Callable[[], Awaitable[Mapping[str, object]]]:
    """The hook that tells `status` about users: from the ledger, so that it works while the hub is down."""

    async def look() -> Mapping[str, object]:
        processes = ledger.processes()
        servers: list[dict[str, Any]] = []
        clusters: list[dict[str, Any]] = []
        for reservation, state in sorted(processes.items()):
            handle = ProcessHandle.from_state(state)
            if not isolation.alive(handle):
                continue
            usage = isolation.usage(handle)
            entry: dict[str, Any] = {
                "id": reservation,
                "pid": handle.pid,
                "memory": usage.memory if usage else None,
                "processes": usage.processes if usage else None,
            }
            (servers if reservation.startswith("server:") else clusters).append(entry)
        total = ledger.usage()
        return {
            "isolation": isolation.kind,
            "servers": servers,
            "clusters": clusters,
            "queue": [
                {
                    "id": reservation.id,
                    "owner": reservation.owner,
                    "place": waiting.place,
                    "reason": waiting.reason,
                }
                for reservation, waiting in ledger.queue()
            ],
            "memory": {"guaranteed": total.memory, "capacity": ledger.capacity.memory},
            "users_files": await asyncio.to_thread(_users_files, setting),
        }

    return look


def _users_files(setting: Setting) -> Mapping[str, object]:
    """What users' files take against `notebooks.home.size`; without that limit nothing is measured."""
    limit = setting.site.notebooks.home.size
    uses = {} if limit is None else read_uses(setting.places.disk_use)
    return {
        "limit": limit,
        "users": [
            {
                "user": user,
                "bytes": use.bytes,
                "complete": use.complete,
                "over": judge(use, limit) is Verdict.OVER,
            }
            for user, use in sorted(uses.items(), key=lambda one: -one[1].bytes)
        ],
    }
