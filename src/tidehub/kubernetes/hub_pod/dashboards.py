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
import signal
import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from tornado import httpserver
from tornado.log import enable_pretty_logging

from tidehub.gateway.dashboards.gate import Gate, GateSettings
from tidehub.gateway.dashboards.handlers import application, end, session
from tidehub.gateway.dashboards.protocol import derived, key_of_service
from tidehub.login import log_scrub

IDLE = 120.0
"""Seconds that a connection may be without a request, or take to send a request's headers."""


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
        server = httpserver.HTTPServer(
            application(Gate(settings, first, second, third)),
            max_body_size=1 << 40,
            xheaders=True,
            idle_connection_timeout=IDLE,
        )
        server.listen(port, family=socket.AF_UNSPEC)
        await stop.wait()
        await end(server)


def main() -> None:
    """Run as the hub's service."""
    logging.getLogger().setLevel(logging.INFO)
    enable_pretty_logging()
    log_scrub.install()
    address = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
    asyncio.run(serve(settings_of(os.environ), address.port or 80))
