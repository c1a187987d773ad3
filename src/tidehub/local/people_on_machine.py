"""People's processes as the operator sees them: who has what running, and how all of it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tidehub.capacity.ledger import Ledger
from tidehub.capacity.queue import NOTEBOOK
from tidehub.local.addresses import Ports
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
        ledger.pause()
        for _ in range(ROUNDS):
            running = {
                claim: handle
                for claim, state in ledger.processes().items()
                if isolation.alive(handle := ProcessHandle.from_state(state))
            }
            if not running:
                break
            await asyncio.gather(*(isolation.stop(handle, grace) for handle in running.values()))
            for claim in running:
                ledger.release(claim)
        # What no book knows, such as a kernel whose server died a moment ago.
        await isolation.stop_all(grace=grace)

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


def end_interrupted_starts(ledger: Ledger, isolation: Isolation) -> Callable[[], Awaitable[None]]:
    """The hook before every start of the hub: ends servers that a killed hub was starting and never wrote down."""

    async def end() -> None:
        for claim, state in ledger.interrupted(NOTEBOOK).items():
            handle = ProcessHandle.from_state(state)
            if isolation.alive(handle):
                await isolation.stop(handle, 2.0)
            ledger.release(claim)
        ledger.reconcile(lambda state: isolation.alive(ProcessHandle.from_state(state)))
        known = [ProcessHandle.from_state(state) for state in ledger.processes().values()]
        await isolation.tidy("servers", known, grace=2.0)

    return end


def observe(
    setting: Setting, ledger: Ledger, isolation: Isolation
) -> Callable[[], Awaitable[Mapping[str, object]]]:
    """The hook that tells `status` about people: from the ledger, so that it works while the hub is down."""

    async def look() -> Mapping[str, object]:
        processes = ledger.processes()
        servers: list[dict[str, Any]] = []
        clusters: list[dict[str, Any]] = []
        for claim, state in sorted(processes.items()):
            handle = ProcessHandle.from_state(state)
            if not isolation.alive(handle):
                continue
            usage = isolation.usage(handle)
            entry: dict[str, Any] = {
                "id": claim,
                "pid": handle.pid,
                "memory": usage.memory if usage else None,
                "processes": usage.processes if usage else None,
            }
            (servers if claim.startswith("server:") else clusters).append(entry)
        total = ledger.usage()
        return {
            "isolation": isolation.kind,
            "servers": servers,
            "clusters": clusters,
            "queue": [
                {"id": claim.id, "owner": claim.owner, "place": waiting.place, "reason": waiting.reason}
                for claim, waiting in ledger.queue()
            ],
            "memory": {"guaranteed": total.memory, "capacity": ledger.capacity.memory},
        }

    return look
