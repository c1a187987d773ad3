"""Signing in and out: the OpenID Connect code flow, exactly as a browser goes through it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from tidehub.checks.browser import Browser, Page
from tidehub.checks.journey import Journey
from tidehub.checks.report import PhaseFailed
from tidehub.checks.target import Account

HOME = "hub/home"


async def front_page(journey: Journey) -> str:
    """The public address answers, and the hub behind it."""
    browser = journey.browser
    answer = await browser.call("GET", "hub/api/")
    if answer.status_code != 200:
        raise PhaseFailed(
            f"the hub does not answer behind {browser.address}: {answer.status_code} from {answer.url.path}"
        )
    try:
        return f"JupyterHub {answer.json()['version']}"
    except (ValueError, KeyError):
        raise PhaseFailed(f"what answers is not JupyterHub: {browser.address}") from None


async def sign_in(browser: Browser, account: Account) -> Page:
    """Signs in through the identity provider's own form; returns the page the user ends at.

    Raises `PhaseFailed` with the page's words when the provider or the hub refuses.
    """
    page = await browser.open(f"hub/login?next={quote(urlsplit(browser.url(HOME)).path, safe='')}")
    if page.status != 200:
        raise PhaseFailed(f"the login page does not open: {page.words}")
    if not _password_form(page):
        link = next((link for link in page.contents.links if "oauth_login" in link), None)
        if link is None:
            raise PhaseFailed(f"the login page has no way to sign in: {page.words}")
        page = await browser.open(urljoin(page.url, link))
    form = _password_form(page)
    if form is None:
        raise PhaseFailed(f"the identity provider shows no login form: {page.words}")
    password = form.of_kind("password")[0].name
    name = next((field.name for field in form.fields if field.kind in ("text", "email")), "username")
    page = await browser.submit(page, form, {name: account.name, password: account.password})
    if _password_form(page):
        raise PhaseFailed(f"the identity provider refused the password of {account.name}: {page.words}")
    if page.status != 200 or "/hub/" not in page.path:
        raise PhaseFailed(f"the hub refused {account.name}: {page.words}")
    return page


def _password_form(page: Page) -> Any:
    return next((form for form in page.contents.forms if form.of_kind("password")), None)


async def who(browser: Browser) -> dict[str, Any]:
    """The hub's record of the signed-in user. Raises `PhaseFailed` when nobody is signed in."""
    answer = await browser.call("GET", "hub/api/user")
    if answer.status_code != 200:
        raise PhaseFailed(
            f"the hub does not know who is signed in: {answer.status_code} from {answer.url.path}"
        )
    record: dict[str, Any] = answer.json()
    return record


def has_server(record: dict[str, Any]) -> bool:
    """Whether this user has a server that runs, starts or stops."""
    servers = record.get("servers") or {}
    return bool(
        record.get("server") or record.get("pending") or any(s.get("name") == "" for s in servers.values())
    )


async def log_in(journey: Journey) -> str:
    """Signs in as a demo user whose work is not disturbed: one without a server."""
    if journey.target.token:
        return await _enter_by_token(journey)
    busy: list[str] = []
    for account in _candidates(journey):
        await sign_in(journey.browser, account)
        record = await who(journey.browser)
        journey.user, journey.signed_in = str(record["name"]), True
        journey.is_user(record)
        if not has_server(record):
            return f"{journey.user}, by the identity provider's form" + (
                f" ({', '.join(busy)} busy)" if busy else ""
            )
        busy.append(journey.user)
        await log_out(journey)
    raise PhaseFailed(
        f"a server of {' and '.join(busy)} is running, and a check must not "
        "disturb anybody's work: stop one, or name another account with --user"
    )


def _candidates(journey: Journey) -> Sequence[Account]:
    accounts = journey.target.accounts
    if journey.wanted_user is None:
        return accounts
    chosen = [account for account in accounts if account.name == journey.wanted_user]
    if not chosen:
        known = ", ".join(account.name for account in accounts)
        raise PhaseFailed(f"the demo account {journey.wanted_user} does not exist; possible: {known}")
    return chosen


async def _enter_by_token(journey: Journey) -> str:
    answer = await journey.browser.call("GET", "hub/api/user")
    if answer.status_code != 200:
        raise PhaseFailed(f"the hub refused the given token: {answer.status_code}")
    record = answer.json()
    journey.user = str(record["name"])
    if record.get("kind", "user") != "user":
        raise PhaseFailed("the given token is a service's; a user's is needed, from the hub's Token page")
    if has_server(record):
        raise PhaseFailed(
            f"{journey.user} already has a server running, and a check must not disturb anybody's work: "
            "stop it, or use another user's token"
        )
    journey.is_user(record)
    return f"{journey.user}, whose token was given; the login itself is not checked"


async def log_out(journey: Journey) -> str:
    """Signs out, and proves that the session is over."""
    browser = journey.browser
    page = await browser.open("hub/logout")
    if page.status >= 400:
        raise PhaseFailed(f"signing out fails: {page.words}")
    journey.signed_in = False
    answer = await browser.call("GET", "hub/api/user")
    if answer.status_code == 200:
        raise PhaseFailed("the session goes on after signing out")
    browser.http.cookies.clear()
    return ""
