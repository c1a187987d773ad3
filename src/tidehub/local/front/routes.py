"""After the proxy restarted it knows no routes; the hub knows them all and is asked to set them at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from tidehub.errors import TidehubError
from tidehub.local.secrets import Secret
from tidehub.local.supervisor.platform import Check, Hook, Ready

_RETRY = 0.5


def routes_check(api_socket: Path, token: Secret, wanted: Sequence[str]) -> Check:
    """A check that the proxy knows the routes `wanted` (paths that begin and end with `/`).

    The proxy sends what it does not know to the hub, so the hub answers before its routes are set, and a user
    who signs in at that moment finds no identity provider.
    """

    async def check() -> Ready:
        transport = httpx.AsyncHTTPTransport(uds=str(api_socket))
        try:
            async with httpx.AsyncClient(transport=transport, trust_env=False, timeout=10) as client:
                headers = {"Authorization": f"token {token.reveal()}"}
                known = (await client.get("http://localhost/api/routes", headers=headers)).json()
        except (httpx.HTTPError, ValueError) as error:
            return Ready(False, f"the proxy's API does not answer: {error or type(error).__name__}")
        # The proxy leaves the closing slash out.
        missing = [path for path in wanted if path not in known and path.rstrip("/") not in known]
        return Ready(False, f"the proxy has no route {', '.join(missing)} yet") if missing else Ready(True)

    return check


def both(first: Check, second: Check) -> Check:
    """A check that both pass, asked in turn."""

    async def check() -> Ready:
        found = await first()
        return await second() if found.ok else found

    return check


def restore_routes(
    hub_url: str, token: Secret, *, unix_socket: Path | None = None, patience: float = 30.0
) -> Hook:
    """A hook that POSTs `<hub_url>/api/proxy` until the hub agrees, for `patience` seconds.

    `hub_url` is the hub's own address with its prefix (`http://127.0.0.1:8081/base/hub`), not the public one;
    `unix_socket` is where the hub listens inside, if it does; `token` needs the scope `proxy`. Without this the hub
    notices missing routes only at its next regular look,
    up to five minutes later (JupyterHub.last_activity_interval).
    """

    async def restore() -> None:
        deadline = time.monotonic() + patience
        headers = {"Authorization": f"token {token.reveal()}"}
        transport = httpx.AsyncHTTPTransport(uds=None if unix_socket is None else str(unix_socket))
        async with httpx.AsyncClient(transport=transport, trust_env=False, timeout=patience) as client:
            while True:
                try:
                    answer = await client.post(f"{hub_url.rstrip('/')}/api/proxy", headers=headers)
                    if answer.is_success:
                        return
                    problem = f"the hub answers {answer.status_code}"
                except httpx.HTTPError as error:
                    problem = f"the hub does not answer: {error or type(error).__name__}"
                if time.monotonic() > deadline:
                    raise TidehubError(f"routes were not restored in {patience:g} s: {problem}")
                await asyncio.sleep(_RETRY)

    return restore
