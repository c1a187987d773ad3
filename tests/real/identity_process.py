"""The real provider as a process, and a user's browser before it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
from child import with_us

from tidehub.identity.accounts import AccountStore
from tidehub.identity.addresses import FRONT_HEADER, front_proof
from tidehub.identity.demo_accounts import ensure_demo_accounts
from tidehub.identity.sessions import digest

GROUP = "urn:mace:egi.eu:group:vo.pangeo.eu:role=member#aai.egi.eu"
HUB, HUB_SECRET = "hub", "hub-secret-of-this-test-run"
OTHER, OTHER_SECRET = "other", "other-secret-of-this-test-run"
"""A client that the provider does not know."""
CALLBACK = "http://127.0.0.1:9999/hub/oauth_callback"
AFTER_LOGOUT = "http://127.0.0.1:9999/hub/"
SCOPE = "openid profile email entitlements eduperson_entitlement offline_access"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass
class RunningProvider:
    directory: Path
    changes: dict[str, object] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    passwords: dict[str, str] = field(default_factory=dict)

    @property
    def issuer(self) -> str:
        return str(self.changes.get("issuer", f"http://127.0.0.1:{self.port}/services/identity"))

    @property
    def inside(self) -> str:
        """Where the proxy would connect to."""
        return f"http://127.0.0.1:{self.port}{urlsplit(self.issuer).path}"

    @property
    def state_dir(self) -> Path:
        return self.directory / "state"

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def config(self) -> dict[str, object]:
        return {
            "issuer": self.issuer,
            "listen": {"host": "127.0.0.1", "port": self.port},
            "state_dir": str(self.state_dir),
            "site_name": "Pangeo <of this & that>",
            "client": {
                "client_id": HUB,
                "client_secret": HUB_SECRET,
                "redirect_uri": CALLBACK,
                "post_logout_redirect_uris": [AFTER_LOGOUT],
            },
            "log_level": "DEBUG",
            **self.changes,
        }

    def write_config(self) -> Path:
        path = self.directory / "config.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps(self.config()))
        return path

    def hand_over(self, kind: str, secret: str, client_id: str = OTHER) -> None:
        """Make a code or refresh token another client's: one that this provider served before, say."""
        with sqlite3.connect(self.state_dir / "identity.sqlite") as database:
            change = (
                f"UPDATE grants SET client_id = ? WHERE id = (SELECT grant_id FROM {kind} WHERE hash = ?)"
            )
            assert database.execute(change, (client_id, digest(secret))).rowcount == 1

    def make_accounts(self) -> None:
        with AccountStore.open(self.state_dir) as store:
            self.passwords = ensure_demo_accounts(store, GROUP)

    def start(self) -> None:
        config = self.write_config()
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                with_us([sys.executable, "-m", "tidehub.identity", "--config", str(config)]),
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        deadline = time.monotonic() + 60
        while True:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            try:
                answer = httpx.get(f"{self.inside}/health")
            except httpx.TransportError:
                time.sleep(0.05)
                continue
            assert answer.json() == {"status": "ok"}
            return

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        if self.process is None or self.process.poll() is not None:
            return -1
        self.process.terminate()
        return self.process.wait(timeout=20)

    def token(self, *, auth: tuple[str, str] | None = (HUB, HUB_SECRET), **form: str) -> httpx.Response:
        return httpx.post(f"{self.inside}/token", data=form, auth=auth)

    def userinfo(self, access_token: str) -> httpx.Response:
        return httpx.get(f"{self.inside}/userinfo", headers={"Authorization": f"Bearer {access_token}"})

    def redeem(self, code: str, verifier: str) -> dict[str, object]:
        answer = self.token(
            grant_type="authorization_code", code=code, redirect_uri=CALLBACK, code_verifier=verifier
        )
        assert answer.status_code == 200, answer.text
        body: dict[str, object] = answer.json()
        return body


def pkce() -> tuple[str, str]:
    verifier = secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    return verifier, challenge


def request_parameters(challenge: str, **changes: str | None) -> dict[str, str]:
    parameters: dict[str, str | None] = {
        "response_type": "code",
        "client_id": HUB,
        "redirect_uri": CALLBACK,
        "scope": SCOPE,
        "state": "the state",
        "nonce": "the nonce",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    parameters.update(changes)
    return {name: value for name, value in parameters.items() if value is not None}


def hidden_fields(page: str) -> dict[str, str]:
    found = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', page)
    return {unescape(name): unescape(value) for name, value in found}


def answer_of(response: httpx.Response) -> dict[str, str]:
    """The parameters with which the browser is sent back to the client."""
    assert response.status_code in (302, 303), (response.status_code, response.text)
    location = response.headers["Location"]
    assert location.startswith(CALLBACK + "?"), location
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}


class Browser:
    """Cookies, forms and the address that the proxy would report."""

    def __init__(self, provider: RunningProvider, address: str | None = None) -> None:
        address = address or f"203.0.{secrets.randbelow(256)}.{secrets.randbelow(256)}"
        self.provider = provider
        said = {"X-Forwarded-For": address, FRONT_HEADER: front_proof(HUB_SECRET)}
        self.http = httpx.Client(headers=said, timeout=30)

    def authorize(self, challenge: str, **changes: str | None) -> httpx.Response:
        parameters = request_parameters(challenge, **changes)
        return self.http.get(f"{self.provider.inside}/authorize", params=parameters)

    def submit(self, page: httpx.Response, username: str, password: str, **changes: str) -> httpx.Response:
        fields = {**hidden_fields(page.text), "username": username, "password": password, **changes}
        return self.http.post(f"{self.provider.inside}/login", data=fields)

    def sign_in(
        self, username: str = "alice", password: str | None = None, **changes: str | None
    ) -> tuple[str, str]:
        """The code and its verifier."""
        verifier, challenge = pkce()
        page = self.authorize(challenge, **changes)
        assert page.status_code == 200, page.text
        answer = self.submit(page, username, password or self.provider.passwords[username])
        return answer_of(answer)["code"], verifier

    def tokens(self, username: str = "alice", **changes: str | None) -> dict[str, object]:
        return self.provider.redeem(*self.sign_in(username, **changes))
