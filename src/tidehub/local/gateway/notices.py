"""Tells the user at the notebook, through their scheduler, what happened to their workers."""

from __future__ import annotations

import logging
from typing import Any

import aiohttp

from tidehub.gateway.dashboards.protocol import KEY_HEADER, dashboard_key

ROUTE = "/tidehub/notice"


class Notices:
    """Sends texts to schedulers; a client of theirs shows each as a Python warning.

    What cannot be delivered is logged and dropped: a notice must never disturb a cluster.
    """

    def __init__(self, session: aiohttp.ClientSession, key_secret: str, log: logging.Logger) -> None:
        self._session = session
        self._key_secret = key_secret
        self._log = log

    async def tell(self, cluster: Any, text: str) -> bool:
        """Show `text` to the owner of `cluster`; whether its scheduler took it."""
        self._log.warning("Cluster %s: %s", cluster.name, text)
        if not cluster.dashboard_address:
            return False
        headers = {KEY_HEADER: dashboard_key(self._key_secret, cluster.name)}
        timeout = aiohttp.ClientTimeout(total=5)
        try:
            async with self._session.post(
                cluster.dashboard_address + ROUTE, json={"text": text}, headers=headers, timeout=timeout
            ) as answer:
                return answer.status == 204
        except (TimeoutError, aiohttp.ClientError) as error:
            self._log.info("Cluster %s did not take a notice: %s", cluster.name, error)
            return False
