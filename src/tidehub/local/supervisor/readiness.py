"""Questions asked of a running part: a successful HTTP request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import httpx

from tidehub.local.supervisor.component import Check, Ready


def http_check(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    unix_socket: Path | None = None,
    statuses: range = range(200, 300),
    timeout: float = 10.0,
) -> Check:
    """A check that GETs `url` and wants a status in `statuses`. Redirects are not followed.

    Certificates are not verified: the question is whether our own part on this machine answers, and its
    certificate names the public host. So give a token in `headers` only with plain HTTP or a socket.
    """
    if headers and url.startswith("https:"):
        raise ValueError("no secrets over a connection whose certificate is not verified")

    async def check() -> Ready:
        socket = None if unix_socket is None else str(unix_socket)
        transport = httpx.AsyncHTTPTransport(uds=socket, verify=False)
        try:
            async with httpx.AsyncClient(transport=transport, trust_env=False, timeout=timeout) as client:
                answer = await client.get(url, headers=dict(headers or {}))
        except httpx.HTTPError as error:
            return Ready(False, f"{url} does not answer: {error or type(error).__name__}")
        if answer.status_code in statuses:
            return Ready(True)
        return Ready(False, f"{url} answers {answer.status_code}")

    return check
