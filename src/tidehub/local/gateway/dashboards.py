"""The gate before Dask as a part of one machine: `python -m tidehub.local.gateway.dashboards --config FILE`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
from pathlib import Path

import aiohttp
from tornado.log import enable_pretty_logging

from tidehub.errors import TidehubError
from tidehub.gateway.dashboards.gate import Gate
from tidehub.gateway.dashboards.serving import end, server, session
from tidehub.inside import connector_to
from tidehub.listening import IDLE, inherited, inside_name
from tidehub.local.gateway.config import GateFile
from tidehub.local.hub import http_unix
from tidehub.login import log_scrub


async def serve(file: GateFile) -> None:
    """Serve until SIGTERM or SIGINT."""
    settings, stop = file.settings, asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with (
        session(aiohttp.TCPConnector(limit=0)) as to_dashboards,
        session(connector_to(settings.gateway_url)) as to_gateway,
        session(connector_to(settings.hub_api_url)) as to_hub,
    ):
        gate = Gate(settings, to_dashboards, to_gateway, to_hub)
        serving = server(gate, IDLE)
        host, _, port = file.listen.rpartition(":")
        held = inherited("dashboards")
        try:
            if held is not None:
                serving.add_socket(held)
                if (inside := inherited(inside_name("dashboards"))) is not None:
                    serving.add_socket(inside)
            else:
                serving.listen(int(port), host)
        except OSError as error:
            raise TidehubError(
                f"cannot listen on {file.listen}: {error.strerror}", fix="free that port"
            ) from error
        await stop.wait()
        await end(serving)


def main() -> None:
    """Command line: `--config FILE`, a 0600 JSON file of `GateFile`."""
    parser = argparse.ArgumentParser(
        prog="tidehub-dashboards", description="The gate before Dask dashboards."
    )
    parser.add_argument("--config", required=True, type=Path)
    file = GateFile.model_validate_json(parser.parse_args().config.read_bytes())
    logging.getLogger().setLevel(file.log_level.upper())
    enable_pretty_logging()
    log_scrub.install()
    http_unix.install()
    asyncio.run(serve(file))


if __name__ == "__main__":
    main()
