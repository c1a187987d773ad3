"""What every spawner of this hub shares, and what it does with servers that outlived the last hub."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tidehub.capacity.admission import Admission
from tidehub.capacity.ledger import Ledger
from tidehub.capacity.queue import NOTEBOOK, Reservation
from tidehub.local.hub.disk_watch import DiskWatch
from tidehub.local.hub.settings import HubSettings
from tidehub.local.isolation import Isolation, ProcessHandle
from tidehub.local.places import Places


@dataclass(frozen=True)
class HubContext:
    """What every spawner of this hub shares."""

    settings: HubSettings
    places: Places
    isolation: Isolation
    ledger: Ledger
    admission: Admission
    disk_watch: DiskWatch
    last_words: dict[str, str] = field(default_factory=dict)
    """Why servers ended, by reservation, until they start again: the hub throws a spawner away when its server ends."""

    async def settle(self, servers: Iterable[tuple[str, str, Mapping[str, Any]]], log: Any) -> None:
        """Once, before the hub answers: what runs by the hub's own `servers` (owner, name, state) is entered into the
        ledger, which may be new or not know it; what an interrupted start left is ended, for nobody knows it.
        """
        notebooks = self.settings.site.notebooks
        running = []
        for owner, name, state in servers:
            if "process" not in state:
                continue
            handle = ProcessHandle.from_state(state["process"])
            if self.isolation.alive(handle):
                reservation = Reservation(
                    id=server_reservation(owner, name),
                    kind=NOTEBOOK,
                    owner=owner,
                    memory=state.get("mem_guarantee") or notebooks.memory.guarantee,
                    cores=state.get("cpu_guarantee") or notebooks.cpu.guarantee,
                    start_slot=True,
                )
                await asyncio.to_thread(self.ledger.adopt, reservation, handle)
                running.append(handle)
        for unit in await self.isolation.tidy("servers", running, grace=2.0):
            log.warning("Ended %s, which an interrupted start had left", unit)
        await asyncio.to_thread(
            self.ledger.reconcile, lambda state: self.isolation.alive(ProcessHandle.from_state(state))
        )


def server_reservation(owner: str, name: str) -> str:
    """The name of a server's reservation on the machine's memory."""
    return f"server:{owner}:{name}"
