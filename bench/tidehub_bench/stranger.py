"""Opens a page every 100 ms on a new connection, until standard input ends; one JSON line for each look.

A look begins at its time even while earlier ones wait: a slow answer must not lessen how often is looked.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import httpx

EVERY = 0.1


async def look(client: httpx.AsyncClient, url: str) -> None:
    """One look, and what came of it."""
    began, failure = time.monotonic(), ""
    try:
        answer = await client.get(url)
        failure = "" if answer.status_code == 200 else f"code {answer.status_code}"
    except httpx.HTTPError as error:
        failure = str(error) or type(error).__name__
    print(json.dumps({"seconds": time.monotonic() - began, "failure": failure}), flush=True)


async def main(url: str) -> None:
    """Look until standard input ends."""
    over = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    limits = httpx.Limits(max_keepalive_connections=0)
    async with (
        httpx.AsyncClient(limits=limits, timeout=60, trust_env=False) as client,
        asyncio.TaskGroup() as looks,
    ):
        loop = asyncio.get_running_loop()
        at = loop.time()
        while not over.done():
            looks.create_task(look(client, url))
            at += EVERY
            await asyncio.sleep(max(0.0, at - loop.time()))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
