"""The gate before Dask's dashboards as a service that the hub itself runs in its pod, and restarts when it ends.

What it knows of the hub stands in the environment that JupyterHub gives a service of its own ("Services" of its
reference), and the rest in `TIDEHUB_GATE`: `site_name`, `contact` and `gateway_url`. Runs in the images of charts 3.0
to 4.4: JupyterHub 4 and 5, tornado, aiohttp.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import signal
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from tornado.log import enable_pretty_logging

from tidehub.gateway.dashboards.gate import Gate, GateSettings
from tidehub.gateway.dashboards.protocol import derived, key_of_service
from tidehub.gateway.dashboards.serving import end, server, session
from tidehub.login import log_scrub

IDLE = 120.0
"""Seconds that a connection may be without a request, or take to send a request's headers."""

NICE = 10
"""Of the processor the hub gets nine parts of ten while both want it."""
MEMORY = 512 << 20
"""Bytes of data in all; 60 MiB are used while nobody looks at a dashboard. What wants more fails alone."""
STACK = 1 << 20
FILES = 8192


def settings_of(environ: Mapping[str, str]) -> GateSettings:
    """The gate's settings, from the environment of a service."""
    given: dict[str, Any] = json.loads(environ["TIDEHUB_GATE"])
    token = environ["JUPYTERHUB_API_TOKEN"]
    return GateSettings(
        site_name=given["site_name"],
        contact=given["contact"],
        prefix=environ["JUPYTERHUB_SERVICE_PREFIX"].rstrip("/"),
        base_path=environ["JUPYTERHUB_BASE_URL"],
        gateway_url=given["gateway_url"],
        hub_api_url=environ["JUPYTERHUB_API_URL"],
        service_name=environ["JUPYTERHUB_SERVICE_NAME"],
        service_token=token,
        key_secret=key_of_service(token),
        cookie_secret=derived(token, "cookies"),
    )


async def serve(settings: GateSettings, port: int) -> None:
    """Serve on all addresses of the pod until SIGTERM or SIGINT; the pod's policy says who may come."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    connectors = [aiohttp.TCPConnector(limit=0) for _ in range(3)]
    async with (
        session(connectors[0]) as first,
        session(connectors[1]) as second,
        session(connectors[2]) as third,
    ):
        serving = server(Gate(settings, first, second, third), IDLE)
        serving.listen(port, family=socket.AF_UNSPEC)
        await stop.wait()
        await end(serving)


def stand_back() -> None:
    """Leave the hub, which runs in the same container, its processor and memory whatever users do here.

    A container whose memory is used up is ended as a whole (kubelet 1.28 with control groups of version 2).
    """
    os.nice(NICE)
    threading.stack_size(STACK)  # It counts whether it is used or not.
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = FILES if most == resource.RLIM_INFINITY else min(FILES, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
    Path("/proc/self/oom_score_adj").write_text("1000")


def main() -> None:
    """Run as the hub's service."""
    logging.getLogger().setLevel(logging.INFO)
    enable_pretty_logging()
    log_scrub.install()
    stand_back()
    address = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
    asyncio.run(serve(settings_of(os.environ), address.port or 80))
