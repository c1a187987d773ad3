"""The Unix sockets on which the platform's parts reach each other, in place of their TCP ports.

Any user of the machine can connect to a port of loopback, fill the queue of those who wait to be accepted, and take all
ephemeral ports, so that nobody can connect anywhere (EADDRNOTAVAIL). So a part that listens on a port for users'
programs also listens on a socket that only the platform can connect to. Addresses stay what they are, `http://` with
the port: whoever knows the table below goes to the socket instead, and whoever does not, to the port.

Only the standard library when it is imported: parts that start fast use it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import aiohttp

VARIABLE = "TIDEHUB_INSIDE"
"""JSON: `host:port` to the path of the socket. The proxy reads it too (`local/front/front.cjs`)."""


def passing(sockets: Mapping[str, Path]) -> dict[str, str]:
    """The environment that tells a part of the others' sockets, by `host:port`."""
    return {VARIABLE: json.dumps({address: str(path) for address, path in sockets.items()})}


def socket_of(host: str | None, port: int | None) -> str | None:
    """The path of the socket to connect to in place of that address; None where there is none."""
    found = json.loads(os.environ.get(VARIABLE, "{}")).get(f"{host}:{port}")
    return None if found is None else str(found)


def socket_of_url(url: str) -> str | None:
    """The same for a URL."""
    parts = urlsplit(url)
    return socket_of(parts.hostname, parts.port)


def connector_to(url: str) -> aiohttp.BaseConnector:
    """What a session of aiohttp uses that asks only the part at `url`."""
    import aiohttp

    path = socket_of_url(url)
    return aiohttp.TCPConnector(limit=0) if path is None else aiohttp.UnixConnector(path, limit=0)
