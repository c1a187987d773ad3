"""The notebook server: the spawn page, its start with the news of it, JupyterLab, and its end."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import quote

import httpx

from tidehub.checks.browser import Page
from tidehub.checks.journey import Journey
from tidehub.checks.kernel import Kernel
from tidehub.checks.login import who
from tidehub.checks.page import Form
from tidehub.checks.report import PhaseFailed

PROFILE_FIELD = "profile"
_POLL = 0.25
"""Seconds between two looks at a server that stops."""


def server_path(journey: Journey) -> str:
    """The path of the user's server below the base path, ending in `/`."""
    return f"user/{quote(journey.user, safe='@~')}/"


def _spawn_form(page: Page) -> Form | None:
    return next((f for f in page.contents.forms if any(x.name == PROFILE_FIELD for x in f.fields)), None)


async def spawn_page(journey: Journey) -> str:
    """The spawn page offers the site's profiles, one of them preselected."""
    expected = journey.target.profiles
    if len(expected) == 1:
        return f"one profile, {expected[0]}: nothing to choose"
    form = await _open_spawn_form(journey)
    offered = [field for field in form.of_kind("radio") if field.name == PROFILE_FIELD]
    slugs = [field.value for field in offered]
    if expected and slugs != list(expected):
        raise PhaseFailed(f"the spawn page offers {', '.join(slugs)}; the site has {', '.join(expected)}")
    selected = [field.value for field in offered if field.checked]
    wanted = journey.target.default_profile
    # Who chose another profile last time finds that one preselected.
    if len(selected) != 1:
        raise PhaseFailed(
            f"preselected is {', '.join(selected) or 'nothing'}; the site's default is {wanted or 'one'}"
        )
    if journey.profile is not None and journey.profile not in slugs:
        raise PhaseFailed(f"the profile {journey.profile} does not exist; possible: {', '.join(slugs)}")
    return f"{len(slugs)} profiles, {selected[0]} preselected"


async def _open_spawn_form(journey: Journey) -> Form:
    _, form = await _spawn(journey)
    return form


async def _spawn(journey: Journey) -> tuple[Page, Form]:
    page = await journey.browser.open("hub/spawn")
    form = _spawn_form(page)
    if page.status != 200 or form is None:
        raise PhaseFailed(f"the spawn page does not open: {page.words}")
    return page, form


async def start_server(journey: Journey) -> str:
    """Starts the server from the form and follows the progress that the user sees."""
    if journey.target.token:
        return await _start_by_api(journey)
    if len(journey.target.profiles) == 1:
        if journey.profile not in (None, *journey.target.profiles):
            raise PhaseFailed(
                f"the profile {journey.profile} does not exist; possible: {journey.target.profiles[0]}"
            )
        journey.server_started = True
        page = await journey.browser.open("hub/spawn")
    else:
        opened, form = await _spawn(journey)
        profile = journey.profile or journey.target.default_profile
        chosen = {PROFILE_FIELD: profile} if profile else {}
        journey.server_started = True
        page = await journey.browser.submit(opened, form, chosen)
    if page.status >= 400:
        raise PhaseFailed(f"the hub refused the start: {page.words}")
    await _follow_progress(journey)
    return journey.profile or journey.target.default_profile


async def _start_by_api(journey: Journey) -> str:
    """The hub's pages take no token, its API does."""
    profile = journey.profile or journey.target.default_profile
    journey.server_started = True
    path = f"hub/api/users/{quote(journey.user, safe='@~')}/server"
    answer = await journey.browser.call("POST", path, json={PROFILE_FIELD: profile})
    if answer.status_code not in (201, 202):
        raise PhaseFailed(f"the hub refused the start: {answer.status_code} {_message(answer.content)}")
    if answer.status_code == 202:
        await _follow_progress(journey)
    return profile


async def _follow_progress(journey: Journey) -> None:
    browser = journey.browser
    try:
        async with browser.stream(
            f"hub/api/users/{quote(journey.user, safe='@~')}/server/progress"
        ) as answer:
            if answer.status_code == 400 and (await who(browser)).get("server"):
                return  # ready before anybody asked
            if answer.status_code != 200:
                said = _message(await answer.aread())
                raise PhaseFailed(f"no news of the start: {answer.status_code} {said}".rstrip())
            async for line in answer.aiter_lines():
                if line.startswith("data:") and _reached(journey, json.loads(line[5:])):
                    return
    except httpx.HTTPError as error:
        raise PhaseFailed(f"the news of the start broke off: {error or type(error).__name__}") from None
    raise PhaseFailed("the news of the start ended without a result")


def _reached(journey: Journey, event: dict[str, Any]) -> bool:
    message = str(event.get("message") or "")
    if event.get("failed"):
        raise PhaseFailed(message or "the start failed, without a reason")
    if not event.get("ready"):
        journey.tell(message)
    return bool(event.get("ready"))


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body).get("message", ""))
    except (ValueError, AttributeError):
        return ""


async def open_lab(journey: Journey) -> str:
    """JupyterLab's page opens, through the hub's own sign-in for the server."""
    page = await journey.browser.open(f"{server_path(journey)}lab")
    if page.status != 200 or "jupyter-config-data" not in page.html:
        raise PhaseFailed(f"JupyterLab does not open: {page.words}")
    answer = await journey.browser.call("GET", f"{server_path(journey)}api/status")
    if answer.status_code != 200:
        raise PhaseFailed(
            f"the notebook server's API does not answer: {answer.status_code} {_message(answer.content)}"
        )
    return page.contents.title


async def start_kernel(journey: Journey) -> str:
    """Starts a kernel and connects to its websocket."""
    journey.kernel = await Kernel.start(journey.browser, server_path(journey))
    return ""


_CELL = """
import json, os, sys
print(json.dumps({"sum": sum(n * n for n in range(1000)), "python": sys.version.split()[0]}))
"""


async def run_cell(journey: Journey) -> str:
    """A cell computes something known."""
    found = await journey.need_kernel().result(_CELL)
    if found["sum"] != 332833500:
        raise PhaseFailed(f"the cell computed {found['sum']}, expected 332833500")
    return f"Python {found['python']}"


async def stop_server(journey: Journey) -> str:
    """Stops kernel and server, and waits until the hub says that it is gone."""
    kernel, journey.kernel = journey.kernel, None
    broken = ""
    if kernel is not None:
        try:
            await kernel.stop()
        except PhaseFailed as failure:
            broken = failure.why
    path = f"hub/api/users/{quote(journey.user, safe='@~')}"
    while True:
        answer = await journey.browser.call("DELETE", f"{path}/server")
        if answer.status_code in (202, 204, 404):
            break
        # 400: it still starts or stops; the hub accepts the request as soon as that is over.
        if answer.status_code != 400:
            raise PhaseFailed(
                f"the server cannot be stopped: {answer.status_code} {_message(answer.content)}"
            )
        if not _server_left(await who(journey.browser)):
            break
        await asyncio.sleep(_POLL)
    while _server_left(await who(journey.browser)):
        await asyncio.sleep(_POLL)
    journey.server_started = False
    if broken:
        raise PhaseFailed(broken)
    return ""


def _server_left(record: dict[str, Any]) -> bool:
    return bool(record.get("server") or record.get("pending"))
