"""The real proxy behind a front door of its own, for tests of what comes in there."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx

from tidehub.local.front.ports import listen_on
from tidehub.local.front.proxy import FrontDoor, front_door
from tidehub.local.places import Places
from tidehub.local.secrets import Secret
from tidehub.local.supervisor.pace import Backoff
from tidehub.local.supervisor.supervisor import Supervisor

TOKEN = Secret("0123456789abcdef" * 4)


@contextmanager
def proxy_places() -> Iterator[Places]:
    """A state of its own for the proxy."""
    # Not in pytest's own directory, which lets no other user through.
    with tempfile.TemporaryDirectory(prefix="front-") as directory:
        Path(directory).chmod(0o711)
        made = Places.of(Path(directory) / "state").ensure()
        yield made
        made.remove_run()


@asynccontextmanager
async def open_door(
    door: FrontDoor,
    program: list[str],
    places: Places,
    hub: str,
    *,
    uid: int | None = None,
    told: list[str] | None = None,
    headers_timeout: float = 20.0,
    sign_in: tuple[str, Secret] | None = None,
    away_after: float = 20.0,
    cookie_mark: str = "",
    inside: Mapping[str, Path] | None = None,
    node_options: str = "",
) -> AsyncIterator[tuple[Supervisor, list[str]]]:
    restored: list[str] = []

    async def restore() -> None:
        restored.append("restored")

    listener = listen_on(door.address, door.port)
    component = front_door(
        door,
        program=program,
        places=places,
        listener=listener,
        token=TOKEN,
        hub_target=hub,
        hub_path="/hub/",
        restore=restore,
        sign_in=sign_in,
        cookie_mark=cookie_mark,
        inside=inside or {},
        uid=uid,
        gid=uid,
        tls_interval=0.2,
        headers_timeout=headers_timeout,
        away_after=away_after,
        tell=(lambda text: None) if told is None else told.append,
    )
    if node_options:
        component = replace(component, env={**component.env, "NODE_OPTIONS": node_options})
    supervisor = Supervisor(
        [component], logs=places.logs, secrets=[TOKEN], backoff=lambda: Backoff(first=0.05, most=0.2)
    )
    try:
        await supervisor.start()
        yield supervisor, restored
    finally:
        await supervisor.stop()
        listener.close()


def client(**more: object) -> httpx.AsyncClient:
    return httpx.AsyncClient(trust_env=False, timeout=10, **more)  # type: ignore[arg-type]
