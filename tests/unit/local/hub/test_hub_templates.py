"""Our templates on top of the hub's own: titles, the page of all errors, and what the start page says of a wait."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import pytest
from jupyterhub._data import DATA_FILES_PATH

from tidehub import hub_pages
from tidehub.local import hub

UPSTREAM = Path(DATA_FILES_PATH) / "templates"
OURS = [Path(hub.__file__).parent / "templates", hub_pages.SITE, hub_pages.TEMPLATES, UPSTREAM]
"""`c.JupyterHub.template_paths`, which JupyterHub ends with its own."""


@pytest.fixture(scope="module")
def pages() -> jinja2.Environment:
    """Looks templates up as JupyterHub does (`JupyterHub.init_tornado_settings`)."""
    upstream = jinja2.FileSystemLoader([UPSTREAM])
    loaders = [jinja2.PrefixLoader({"templates": upstream}, "/"), jinja2.FileSystemLoader(OURS)]
    return jinja2.Environment(loader=jinja2.ChoiceLoader(loaders), autoescape=True)


BOB = SimpleNamespace(
    name="bob", spawner=SimpleNamespace(options_form=""), spawners={}, json_escaped_name="bob"
)
CONTACT = "help@example.org"


def page_of(pages: jinja2.Environment, name: str, **more: Any) -> str:
    known: dict[str, Any] = {
        "site_name": "Coast & Sea", "site_contact": CONTACT, "disk_full": "", "base_url": "/base/hub/",
        "prefix": "/base/", "logout_url": "/base/hub/logout", "login_url": "/base/hub/login", "user": None,
        "static_url": lambda *_, **__: "", "parsed_scopes": [], "expanded_scopes": [], "services": [],
    }  # fmt: skip
    return pages.get_template(name).render({**known, **more})


def text_of(page: str) -> str:
    page = page[page.index('<div class="error">') :]
    return " ".join(re.sub(r"<[^>]+>", " ", page[: page.index("<script")]).split())


def title_of(page: str) -> str:
    found = re.search(r"<title>(.*?)</title>", page, re.DOTALL)
    assert found is not None
    return found[1].strip()


@pytest.mark.parametrize("user", [BOB, None], ids=["signed in", "signed out"])
@pytest.mark.parametrize("status", [400, 403, 404, 424, 500, 503, 507, 599])
def test_every_error_page_has_the_contact_and_a_way_out(
    pages: jinja2.Environment, status: int, user: Any
) -> None:
    name = "404.html" if status == 404 else "error.html"
    page = page_of(pages, name, status_code=status, status_message="Words", message="what & why", user=user)
    said = text_of(page)
    assert f"Questions: {CONTACT}" in said
    assert ("You are signed in as bob" in said) == (user is not None)
    assert "what &amp; why" in said
    assert f'href="/base/hub/{"home" if user else ""}"' in page
    assert title_of(page).endswith(" – Coast &amp; Sea") and str(status) in said


def test_a_member_is_not_told_no_entry(pages: jinja2.Environment) -> None:
    member = page_of(pages, "error.html", status_code=403, status_message="Forbidden", message="", user=BOB)
    assert title_of(member) == "Not open to your account – Coast &amp; Sea"
    assert "no entry" not in member.lower()
    assert "belongs to another user, or needs rights that your account does not have" in text_of(member)
    assert "Back to your servers" in member and 'href="/base/hub/logout"' in member


def test_what_is_for_administrators_is_said_in_words(pages: jinja2.Environment) -> None:
    message = "Action is not authorized with current scopes; requires any of [admin-ui]"
    page = page_of(pages, "error.html", status_code=403, status_message="x", message=message, user=BOB)
    assert "This page is for the administrators of Coast &amp; Sea." in text_of(page)
    assert "scopes" not in text_of(page)


def test_who_is_refused_at_the_sign_in_reads_the_contact_once(pages: jinja2.Environment) -> None:
    refused = f"<p>You are signed in as nora.</p><p>Questions: {CONTACT}</p>"
    page = page_of(pages, "error.html", status_code=403, status_message="Forbidden", message_html=refused)
    assert title_of(page) == "No entry – Coast &amp; Sea"
    assert text_of(page).count(CONTACT) == 1


def test_without_a_contact_nothing_is_said_of_one(pages: jinja2.Environment) -> None:
    page = page_of(pages, "error.html", status_code=500, status_message="x", message="", site_contact=None)
    assert "Questions" not in page


def test_every_page_has_a_title_of_its_own(pages: jinja2.Environment) -> None:
    titles = {}
    for name in sorted({page.name for folder in OURS for page in folder.glob("*.html")}):
        pages.get_template(name)
        if name in ("404.html", "error.html", "page.html"):
            continue
        found = re.search(
            r"{% block title %}(.+?) – {{ site_name }}{% endblock title %}", hub_pages.texts().get(name, "")
        )
        assert found is not None, f"{name} has the title of another page"
        titles[name] = found[1]
    assert len(set(titles.values())) == len(titles)


@pytest.mark.parametrize("waiting", ["", "Waiting for memory: needs 2 GiB, place 3"])
def test_the_start_page_says_what_a_server_waits_for(pages: jinja2.Environment, waiting: str) -> None:
    server = SimpleNamespace(active=bool(waiting), last_words="", disk_words="", waiting_words=waiting)
    page = page_of(pages, "home.html", user=BOB, default_server=server, url="/base/hub/spawn-pending/bob")
    assert ('id="waiting-words"' in page) == bool(waiting)
    assert waiting in page and title_of(page) == "Your servers – Coast &amp; Sea"


def test_a_notice_of_a_full_disk_is_not_repeated_as_the_reason(pages: jinja2.Environment) -> None:
    given = {"status_code": 507, "status_message": "Insufficient Storage", "disk_full": "The disk is <full>"}
    page = page_of(pages, "error.html", message=given["disk_full"], user=BOB, **given)
    assert page.count("The disk is &lt;full&gt;") == 1
    assert 'id="disk-full"' in page and title_of(page).startswith("No space left")
    other = page_of(pages, "error.html", message="Another reason", **given)
    assert "Another reason" in text_of(other)


def test_a_server_that_ended_says_why_until_a_start_fails(pages: jinja2.Environment) -> None:
    user = SimpleNamespace(**{**vars(BOB), "spawners": {"": SimpleNamespace(last_words="Out of memory")}})
    given = {"user": user, "server_name": "", "spawn_url": "/s"}
    assert "Out of memory" in page_of(pages, "not_running.html", failed=False, **given)
    failed = page_of(pages, "not_running.html", failed=True, failed_message="why", **given)
    assert "Out of memory" not in failed and f"Questions: {CONTACT}" in failed
