"""Questions asked of a running part: a successful HTTP request."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from tidehub.local.front.ports import listeners
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


def listened_by(uid: int | None, addresses: Sequence[str]) -> Check:
    """A check that what listens on all `addresses` (`IP:port`) was started by `uid` (None: ours).

    For a part that opens its ports itself: another user may have taken one while it was down. The kernel's table
    tells who made a socket (proc(5), net/tcp).
    """
    wanted = os.geteuid() if uid is None else uid

    async def check() -> Ready:
        for one in addresses:
            host, _, port = one.rpartition(":")
            owners = set(listeners(int(port), host.strip("[]")).values())
            if not owners:
                return Ready(False, f"nothing listens on {one}")
            if owners != {wanted}:
                others = ", ".join(str(owner) for owner in sorted(owners - {wanted}))
                return Ready(False, f"{one} is taken by a process of uid {others}")
        return Ready(True)

    return check
