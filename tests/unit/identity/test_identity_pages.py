from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from tidehub.identity.accounts import Account
from tidehub.identity.pages import STYLE, Pages, page_headers

EVIL = "<script>alert('x')</script>\" onload=\""
ACCOUNT = Account("ann", EVIL, EVIL, sub=EVIL, entitlements=(EVIL,))
VALUES = {
    "login": {"client": EVIL, "problem": EVIL, "form_token": EVIL, "request": EVIL, "username": EVIL},
    "account": {"account": ACCOUNT, "form_token": EVIL},
    "logout": {"account": ACCOUNT, "form_token": EVIL, "kept": {EVIL: EVIL}},
    "signed_out": {},
    "error": {"title": EVIL, "message": EVIL},
}


class Attributes(HTMLParser):
    """The names of all attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names |= {name for name, _ in attrs}


@pytest.mark.parametrize("name", VALUES)
def test_every_page_escapes_and_needs_no_scripts_or_inline_style(name: str) -> None:
    page = Pages(EVIL, "/services/identity").render(name, **VALUES[name]).decode()
    assert "<script" not in page
    attributes = Attributes()
    attributes.feed(page)
    assert {"name", "href"} & attributes.names
    assert not [name for name in attributes.names if name == "style" or name.startswith("on")]
    assert "Demo accounts of this machine" in page
    assert '<html lang="en">' in page
    assert 'name="viewport"' in page
    assert 'href="/services/identity/static/style.css"' in page
    assert page.count("<h1>") == 1
    assert page.count("<main>") == 1


def login(**changes: str) -> str:
    values = {"client": "", "problem": "", "form_token": "t", "request": "", "username": ""}
    return Pages("Site", "").render("login", **values | changes).decode()


def test_login_page_is_labelled_for_users_and_password_managers() -> None:
    page = login()
    for field, purpose in (("username", "username"), ("password", "current-password")):
        assert f'<label for="{field}">' in page
        assert re.search(rf'<input id="{field}"[^>]*autocomplete="{purpose}"', page)
    assert 'role="alert"' not in page
    assert page.count("autofocus") == 1
    assert 'action="/login"' in page


def test_problem_is_announced() -> None:
    page = login(problem="Wrong.", username="ann")
    assert re.search(r'role="alert" id="problem">Wrong\.<', page)
    assert "<title>Error: Sign in" in page
    assert page.count('aria-describedby="problem"') == 2
    assert re.search(r'<input id="password"[^>]*autofocus', page)


def test_headers_allow_the_way_back_and_nothing_else() -> None:
    policy = page_headers("https://hub.example.org:8443/hub/cb?x=1")["Content-Security-Policy"]
    assert "form-action 'self' https://hub.example.org:8443;" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "form-action 'self';" in page_headers()["Content-Security-Policy"]


def test_style_brings_nothing_from_elsewhere() -> None:
    style = STYLE.decode()
    assert "url(" not in style and "@import" not in style
    assert "prefers-color-scheme: dark" in style


def contrast(first: str, second: str) -> float:
    """WCAG 2.2 contrast ratio of two #rrggbb colours."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1])
def test_colours_are_readable(theme: int) -> None:
    blocks = re.findall(r":root \{(.*?)\}", STYLE.decode(), re.DOTALL)
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", blocks[theme]))
    for ink, ground in (
        ("ink", "card"),
        ("ink-soft", "card"),
        ("ink-soft", "ground"),
        ("ink-soft", "ground-deep"),
        ("on-sea", "sea"),
        ("on-sea", "sea-dark"),
        ("sea", "card"),
        ("alert", "alert-ground"),
    ):
        assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    assert contrast(colours["line"], colours["card"]) >= 3
