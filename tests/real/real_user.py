"""A user at a real platform: what `tidehub check` does, in pieces that a test can put together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http.cookiejar import CookieJar
from typing import Any

import httpx
from real_platform import RealPlatform

from tidehub.checks import server
from tidehub.checks.browser import Browser, Page
from tidehub.checks.journey import Journey
from tidehub.checks.kernel import Kernel, Output
from tidehub.checks.login import sign_in, who
from tidehub.checks.report import PhaseFailed
from tidehub.checks.target import Account


class User:
    """Somebody signed in, with their browser, server and kernel."""

    def __init__(self, platform: RealPlatform, name: str, browser: Browser) -> None:
        self.name = name
        self.platform = platform
        self.browser = browser
        self.journey = Journey(platform.target, browser, user=name, signed_in=True)

    @property
    def base(self) -> str:
        """The path of the own server below the base path."""
        return server.server_path(self.journey)

    @property
    def news(self) -> list[str]:
        """What the progress of the last start said: nothing if it was over before anybody asked, within a second."""
        return self.journey.news

    async def start(self, profile: str | None = None) -> None:
        """Starts the server from the spawn page and waits until it is ready."""
        self.journey.profile = profile
        self.journey.news.clear()
        await server.start_server(self.journey)
        await server.open_lab(self.journey)

    async def stop(self) -> None:
        """Stops the server and waits for its end."""
        await server.stop_server(self.journey)

    async def record(self) -> dict[str, Any]:
        """What the hub knows of this user."""
        return await who(self.browser)

    async def kernel(self) -> Kernel:
        """A new kernel."""
        return await Kernel.start(self.browser, self.base)

    async def run(self, code: str) -> Output:
        """One cell in a kernel of its own."""
        kernel = await self.kernel()
        try:
            return await kernel.run(code)
        finally:
            await kernel.stop()

    async def largest_file(self) -> int:
        """Bytes that a file may have which the server writes; -1 for any number."""
        output = await self.run("import resource; print(resource.getrlimit(resource.RLIMIT_FSIZE)[0])")
        assert not output.error, output.error
        return int(output.stdout)

    async def open(self, path: str) -> Page:
        return await self.browser.open(path)

    async def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        return await self.browser.call(method, path, **more)


@asynccontextmanager
async def login(
    platform: RealPlatform, name: str, password: str | None = None, *, jar: CookieJar | None = None
) -> AsyncIterator[User]:
    """A user signed in through the identity provider's form; a server they started is stopped in the end.

    `jar` holds the cookies of a browser in which they are at another platform too.
    """
    account = Account(name, password or platform.accounts[name])
    async with Browser(platform.address) as browser:
        if jar is not None:
            browser.http.cookies.jar = jar
        await sign_in(browser, account)
        user = User(platform, name, browser)
        try:
            yield user
        finally:
            if user.journey.server_started:
                await user.stop()


async def eventually(
    what: Callable[[], Awaitable[bool]], *, within: float, every: float = 0.2, saying: str
) -> float:
    """Seconds until `what` is true; fails after `within` seconds."""
    began = time.monotonic()
    while True:
        try:
            async with asyncio.timeout(max(1.0, within)):
                if await what():
                    return time.monotonic() - began
        except (PhaseFailed, TimeoutError, httpx.HTTPError):
            pass
        assert time.monotonic() - began < within, f"{saying}: not within {within:g} s"
        await asyncio.sleep(every)
