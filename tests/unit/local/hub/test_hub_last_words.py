from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from tidehub.local.hub.spawner import TidehubSpawner
from tidehub.local.isolation import Ending


class Stopped:
    """A spawner's part in the end of a server that memory killed."""

    last_words = TidehubSpawner.last_words

    def __init__(self, context: Any) -> None:
        self.context = context
        self.reservation_id = "server:alice:"
        self.handle: Any = object()
        self.mem_limit = 2**30
        self.log = SimpleNamespace(warning=lambda *_: None)
        self._log_name = "alice"
        self.user = SimpleNamespace(name="alice")


def test_the_reason_of_an_end_outlives_the_spawner_which_the_hub_throws_away() -> None:
    killed = Ending(code=None, signal=9, out_of_memory=True, limit=2**30)
    isolation = SimpleNamespace(
        alive=lambda handle: False, ending=lambda handle: killed, clean=lambda handle: None
    )

    async def leave(reservation_id: str) -> None:
        pass

    context = SimpleNamespace(
        isolation=isolation,
        admission=SimpleNamespace(leave=leave),
        disk_watch=SimpleNamespace(stopped=lambda user: None),
        last_words={},
    )
    spawner: Any = Stopped(context)
    assert asyncio.run(TidehubSpawner.poll(spawner)) not in (None, 0)
    next_one = Stopped(context)
    assert "more than its memory limit of 1 GiB" in str(next_one.last_words)
