"""The provider's pages in a real browser: policies, cookies and focus as Chromium applies them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from identity_process import HUB, RunningProvider, pkce, request_parameters
from playwright.sync_api import Page, sync_playwright

pytestmark = [pytest.mark.real, pytest.mark.browser]


class Callback(BaseHTTPRequestHandler):
    """The hub's place: another origin than the provider's."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<title>arrived</title>")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def callback() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Callback)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hub/oauth_callback"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory, callback: str) -> Iterator[RunningProvider]:
    client = {
        "client_id": HUB,
        "client_secret": "hub-secret-of-this-test-run",
        "redirect_uri": callback,
        "post_logout_redirect_uris": [callback],
    }
    running = RunningProvider(tmp_path_factory.mktemp("identity"), {"client": client})
    running.make_accounts()
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    chromium = Path("/usr/bin/chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium if chromium.exists() else None, args=["--no-sandbox"]
        )
        yield browser.new_page()
        browser.close()


def address(provider: RunningProvider, callback: str, challenge: str) -> str:
    parameters = request_parameters(challenge, redirect_uri=callback)
    return f"{provider.issuer}/authorize?{urlencode(parameters)}"


def test_a_user_signs_in_and_out(provider: RunningProvider, callback: str, page: Page) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(address(provider, callback, pkce()[1]))
    assert page.title() == "Sign in · Pangeo <of this & that>"
    assert page.evaluate("document.activeElement.id") == "username"
    assert page.evaluate("getComputedStyle(document.querySelector('main')).borderRadius") != "0px"
    assert complaints == []
    page.get_by_label("Username").fill("alice")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    assert "Wrong username or password" in page.get_by_role("alert").inner_text()
    assert page.evaluate("document.activeElement.id") == "password"
    page.get_by_label("Password").fill(provider.passwords["alice"])
    page.keyboard.press("Enter")
    page.wait_for_url(f"{callback}?**")
    answer = parse_qs(urlsplit(page.url).query)
    assert answer["state"] == ["the state"]
    assert "code" in answer
    assert page.evaluate("document.cookie") == "", "no script reads the cookies"

    page.goto(address(provider, callback, pkce()[1]))
    assert page.url.startswith(callback), "the session is used"
    page.goto(
        f"{provider.issuer}/logout?{urlencode({'client_id': HUB, 'post_logout_redirect_uri': callback})}"
    )
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(callback)
    page.goto(address(provider, callback, pkce()[1]))
    assert page.get_by_label("Username").is_visible(), "signed out"


def test_scripts_of_the_same_origin_get_no_code(provider: RunningProvider, callback: str, page: Page) -> None:
    """A notebook server shares the origin: what runs there must not sign in for the user."""
    page.goto(f"{provider.issuer}/")
    page.get_by_label("Username").fill("bob")
    page.get_by_label("Password").fill(provider.passwords["bob"])
    page.keyboard.press("Enter")
    page.get_by_text("You are signed in as").wait_for()
    # A page of the origin without the provider's own policy, as a notebook server would have.
    page.route(
        f"http://127.0.0.1:{provider.port}/user/*", lambda route: route.fulfill(body="<p>notebook</p>")
    )
    page.goto(f"http://127.0.0.1:{provider.port}/user/mallory")
    url = address(provider, callback, pkce()[1])
    script = "url => fetch(url, {credentials: 'include', redirect: 'manual'}).then(a => [a.type, a.status])"
    assert page.evaluate(script, url) == ["basic", 403]


def test_it_fits_a_phone(provider: RunningProvider, callback: str, page: Page) -> None:
    page.context.clear_cookies()
    page.set_viewport_size({"width": 320, "height": 560})
    page.goto(address(provider, callback, pkce()[1]))
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    assert page.get_by_role("button", name="Sign in").is_visible()
