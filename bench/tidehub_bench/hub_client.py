"""A hub as users and API clients see it: log in by its forms, get a token, start and stop servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

import httpx

from tidehub.errors import TidehubError

POLL = 0.02
"""Seconds between two looks of the API client that waits for one server."""
POLL_MANY = 0.1
"""Seconds between two looks at the list of all servers."""
GAVE_UP = "the hub gave up"
GIVE_UP = 300.0
"""Seconds after which a start that neither succeeded nor failed counts as failed."""


@dataclass(frozen=True)
class User:
    """Who logs in."""

    name: str
    password: str


@dataclass(frozen=True)
class Start:
    """How one server start went: seconds until the hub called it ready, or why it never did."""

    seconds: float | None
    failure: str = ""


class _Form(HTMLParser):
    """The first form of a page that asks for a password."""

    def __init__(self) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self.name_field = self.password_field = ""
        self._open = self._done = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form" and not self._done:
            self._open, self.action, self.fields = True, given.get("action", ""), {}
        elif tag == "input" and self._open and given.get("name"):
            kind = given.get("type", "text").lower()
            if kind == "password":
                self.password_field = given["name"]
            elif kind in ("text", "email"):
                self.name_field = given["name"]
            elif kind == "hidden":
                self.fields[given["name"]] = given.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form" and self._open:
            self._open = False
            self._done = bool(self.password_field)


class Hub:
    """The API of one hub through its public address. `address` ends with `/`, the hub's pages are below `hub/`."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.http = httpx.AsyncClient(
            timeout=120, limits=httpx.Limits(max_connections=60, max_keepalive_connections=60)
        )
        self.tokens: dict[str, str] = {}

    async def close(self) -> None:
        await self.http.aclose()

    async def log_in(self, user: User) -> None:
        """Log in as a browser does and keep an API token of the user's own. Raises `TidehubError`."""
        async with httpx.AsyncClient(timeout=60, follow_redirects=True) as browser:
            # Without a page to go on to, a hub without a choice of profiles would start a server.
            onward = {"next": "/hub/token"}
            page = await browser.get(f"{self.address}hub/oauth_login", params=onward)
            if page.status_code == 404:  # a hub whose own form asks for the password
                page = await browser.get(f"{self.address}hub/login", params=onward)
            form = _Form()
            form.feed(page.text)
            if not form.password_field:
                raise TidehubError(f"no login form at {page.url} (code {page.status_code})")
            fields = {**form.fields, form.name_field: user.name, form.password_field: user.password}
            after = await browser.post(urljoin(str(page.url), form.action or ""), data=fields)
            if after.status_code >= 400 or after.url.path != "/hub/token":
                raise TidehubError(
                    f"{user.name} could not log in: {after.url.path} answers {after.status_code}"
                )
            answer = await browser.post(
                f"{self.address}hub/api/users/{user.name}/tokens",
                json={"note": "bench"},
                headers={"X-XSRFToken": _hub_xsrf(browser.cookies)},
            )
            if answer.status_code != 201:
                raise TidehubError(f"{user.name} got no token: code {answer.status_code} {answer.text[:200]}")
            self.tokens[user.name] = answer.json()["token"]

    async def start(self, name: str) -> Start:
        """Start a user's server, looking every 20 ms whether the hub calls it ready."""
        began = time.monotonic()
        asked = asyncio.create_task(self._ask_start(name))
        try:
            while time.monotonic() - began < GIVE_UP:
                answered = asked.done()  # before the look: what it shows is newer than the answer
                user = (await self._get(name, f"users/{name}")).json()
                state = (user.get("servers") or {}).get("")
                if state and state["ready"]:
                    return Start(time.monotonic() - began)
                if answered and (refused := asked.result() or ("" if state else GAVE_UP)):
                    return Start(None, await self._explained(name, refused))
                await asyncio.sleep(POLL)
            return Start(None, f"not ready after {GIVE_UP:.0f} s")
        finally:
            await _finished(asked)

    async def start_together(self, names: list[str], watcher: str) -> dict[str, Start]:
        """Start many servers at once. `watcher` names the kept token that may list all users."""
        began = time.monotonic()
        asked = {name: asyncio.create_task(self._ask_start(name)) for name in names}
        ended: dict[str, Start] = {}
        try:
            while len(ended) < len(names) and time.monotonic() - began < GIVE_UP:
                answered = {name for name, task in asked.items() if task.done()}
                users = (await self._get(watcher, "users?limit=200")).json()
                now = time.monotonic() - began
                for user in users:
                    name = user["name"]
                    if name not in asked or name in ended:
                        continue
                    state = (user.get("servers") or {}).get("")
                    if state and state["ready"]:
                        ended[name] = Start(now)
                    elif name in answered:
                        refused = asked[name].result() or ("" if state else GAVE_UP)
                        if refused:
                            ended[name] = Start(None, await self._explained(name, refused))
                await asyncio.sleep(POLL_MANY)
        finally:
            for task in asked.values():
                await _finished(task)
        return {name: ended.get(name, Start(None, f"not ready after {GIVE_UP:.0f} s")) for name in names}

    async def stop(self, name: str, patience: float = 90) -> None:
        """Stop a user's server and wait until the hub has none for them. Raises `TidehubError`."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            answer = await self.http.delete(self._url(f"users/{name}/server"), headers=self._auth(name))
            if answer.status_code not in (202, 204, 400, 404):
                raise TidehubError(
                    f"the hub would not stop {name}'s server: {answer.status_code} {answer.text[:200]}"
                )
            while time.monotonic() < deadline:
                servers = (await self._get(name, f"users/{name}")).json().get("servers") or {}
                if "" not in servers:
                    return
                if servers[""]["ready"]:
                    break  # the request came while another was pending
                await asyncio.sleep(0.1)
        raise TidehubError(f"{name}'s server did not stop within {patience:.0f} s")

    async def _ask_start(self, name: str) -> str:
        try:
            answer = await self.http.post(self._url(f"users/{name}/server"), headers=self._auth(name))
        except httpx.HTTPError as error:
            return f"{type(error).__name__} while asking for the server"
        return "" if answer.status_code in (201, 202) else f"{answer.status_code}: {_words(answer)}"

    async def _explained(self, name: str, refused: str) -> str:
        """Why a start failed, in the hub's own words where it has some; addresses and names left out."""
        if refused != GAVE_UP:
            return refused
        with contextlib.suppress(httpx.HTTPError, ValueError):
            answer = await self.http.get(
                self._url(f"users/{name}/server/progress"), headers=self._auth(name), timeout=10
            )
            events = [line for line in answer.text.splitlines() if line.startswith("data: ")]
            told = json.loads(events[-1].removeprefix("data: ")).get("message", "") if events else ""
            return re.sub(r"http\S+", "its address", str(told)) or refused
        return refused

    async def _get(self, name: str, path: str) -> httpx.Response:
        answer = await self.http.get(self._url(path), headers=self._auth(name))
        if answer.status_code != 200:
            raise TidehubError(f"the hub answered {answer.status_code} to {path}: {answer.text[:200]}")
        return answer

    def _url(self, path: str) -> str:
        return f"{self.address}hub/api/{path}"

    def _auth(self, name: str) -> dict[str, str]:
        return {"Authorization": f"token {self.tokens[name]}"}


async def answers(url: str, patience: float, alive: Any) -> float:
    """Seconds until `url` answers 200, looked at every 20 ms. Raises `TidehubError` after `patience` seconds.

    `alive()` returns why nothing can be expected any more, or an empty text.
    """
    began = time.monotonic()
    async with httpx.AsyncClient(timeout=5, follow_redirects=False) as http:
        while (seconds := time.monotonic() - began) < patience:
            with contextlib.suppress(httpx.HTTPError):
                if (await http.get(url)).status_code == 200:
                    return time.monotonic() - began
            if why := alive():
                raise TidehubError(why)
            await asyncio.sleep(POLL)
    raise TidehubError(f"{url} did not answer within {seconds:.0f} s")


async def _finished(task: asyncio.Task[str]) -> None:
    """Waits for a request whose outcome is already known otherwise, so that the next measurement starts quiet."""
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(task, 60)


def _hub_xsrf(cookies: httpx.Cookies) -> str:
    found = [cookie for cookie in cookies.jar if cookie.name == "_xsrf" and cookie.path.endswith("/hub/")]
    return (found[0].value or "") if found else ""


def _words(answer: httpx.Response) -> str:
    with contextlib.suppress(json.JSONDecodeError, AttributeError):
        return str(answer.json().get("message"))
    return answer.text[:200]
