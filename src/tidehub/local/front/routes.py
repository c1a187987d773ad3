"""After the proxy restarted it knows no routes; the hub knows them all and is asked to set them at once."""

from __future__ import annotations

import asyncio
import time

import httpx

from tidehub.errors import TidehubError
from tidehub.local.secrets import Secret
from tidehub.local.supervisor.component import Hook

_RETRY = 0.5


def restore_routes(hub_url: str, token: Secret, *, patience: float = 30.0) -> Hook:
    """A hook that POSTs `<hub_url>/api/proxy` until the hub agrees, for `patience` seconds.

    `hub_url` is the hub's own address with its prefix (`http://127.0.0.1:8081/base/hub`), not the public one;
    `token` needs the scope `proxy`. Without this the hub notices missing routes only at its next regular look,
    up to five minutes later (JupyterHub.last_activity_interval).
    """

    async def restore() -> None:
        deadline = time.monotonic() + patience
        headers = {"Authorization": f"token {token.reveal()}"}
        async with httpx.AsyncClient(trust_env=False, timeout=patience) as client:
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
