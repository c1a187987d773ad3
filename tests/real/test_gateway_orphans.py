"""Clusters of a person without a notebook server are ended, as the real hub tells who has one."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from gateway_platform import SITE, Platform, wait_for

from tidehub.gateway.reaper import HubUnreachable, people_with_servers

pytestmark = pytest.mark.real


def test_a_cluster_without_a_server_ends_and_the_hub_decides() -> None:
    platform = Platform(site=SITE.replace("orphan_grace: 10 min", "orphan_grace: 1 s"), reap_period=1.0)
    try:
        platform.start()
        said = platform.in_notebook(
            """
import time
from dask_gateway import Gateway
gateway = Gateway()
name = gateway.submit()
while gateway.get_cluster(name).status.name == "PENDING":
    time.sleep(0.1)
deadline = time.time() + 60
while gateway.get_cluster(name).status.name != "STOPPED" and time.time() < deadline:
    time.sleep(0.2)
print("ENDED", gateway.get_cluster(name).status.name)
gateway.close()
"""
        )
        assert "ENDED STOPPED" in said
        assert "its owner has had no server for 1 s" in platform.log("gateway")
        asyncio.run(_ask(platform))
    finally:
        platform.stop()


async def _ask(platform: Platform) -> None:
    url, token = platform.settings.hub_api_url, platform.secrets.reaper_token.reveal()
    async with aiohttp.ClientSession() as session:
        assert await people_with_servers(session, url, token) == {}
        with pytest.raises(HubUnreachable, match="answered 403"):
            await people_with_servers(session, url, "wrong")
        platform.kill("hub")
        wait_for("the hub to be gone", lambda: platform.processes["hub"].poll() is not None)
        with pytest.raises(HubUnreachable):
            await people_with_servers(session, url, token)
