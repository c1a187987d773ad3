"""The provider's OpenID Connect server without a process: a database, a clock, and what the hub would send."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from tidehub.identity.accounts import Account, AccountStore
from tidehub.identity.config import IdentityConfig
from tidehub.identity.grants import Grants
from tidehub.identity.keys import SigningKey
from tidehub.identity.protocol import Server
from tidehub.identity.sessions import Session

START = 1_800_000_000.0
VERIFIER = "v" * 43
SECRET = "a-secret-of-the-hub"
URI = "https://hub.example.org/cb?x=1"
OFFLINE = "openid email offline_access"
GOOD = {
    "client_id": "hub",
    "redirect_uri": URI,
    "response_type": "code",
    "scope": OFFLINE,
    "state": "s",
    "nonce": "n",
    "code_challenge": base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest())
    .decode()
    .rstrip("="),
    "code_challenge_method": "S256",
}


def basic(pair: str, scheme: str = "Basic") -> str:
    return f"{scheme} {base64.b64encode(pair.encode()).decode()}"


class Hub:
    """The one client. `now` is the server's clock, in epoch seconds."""

    def __init__(self, directory: Path) -> None:
        self.now = START
        self.config = IdentityConfig.model_validate(
            {
                "issuer": "http://127.0.0.1:8000/id",
                "listen": {"port": 1},
                "state_dir": directory,
                "site_name": "S",
                "client": {"client_id": "hub", "client_secret": SECRET, "redirect_uri": URI},
            }
        )
        self.accounts = AccountStore.open(directory)
        self.accounts.add_hashed(Account("alice", "Alice", "a@example.org", sub="sub"), "hash")
        self.database = self.accounts.database
        self.grants = Grants(self.accounts, self.config, SigningKey(directory), lambda: self.now)
        self.server = Server(self.grants, access_lifetime=self.config.lifetimes.access)

    def authorize(self, sid: str = "sid", **changes: str) -> dict[str, str]:
        """The parameters that the browser brings back."""
        uri = f"/authorize?{urlencode({**GOOD, **changes})}"
        session = Session(sid, "sub", int(START))
        headers, _, status = self.server.create_authorization_response(uri, credentials={"session": session})
        assert status == 302
        assert headers["Location"].startswith(URI + "&"), "the registered address only"
        return {name: values[0] for name, values in parse_qs(urlsplit(headers["Location"]).query).items()}

    def code(self, sid: str = "sid", scope: str = OFFLINE) -> str:
        return self.authorize(sid, scope=scope)["code"]

    def token(self, authorization: str = basic(f"hub:{SECRET}"), **form: str) -> dict[str, Any]:
        """The token endpoint's answer, with the status under "status"."""
        with self.database.transaction():
            _, body, status = self.server.create_token_response(
                "/token", body=form, headers={"Authorization": authorization}
            )
        return {**json.loads(body), "status": status}

    def redeem(self, code: str, **changes: str) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": URI,
            "code_verifier": VERIFIER,
        }
        return self.token(**{**form, **changes})

    def refresh(self, token: str, **changes: str) -> dict[str, Any]:
        return self.token(grant_type="refresh_token", refresh_token=token, **changes)

    def opens(self, access_token: str) -> bool:
        """Whether userinfo answers to this token."""
        request = type("Request", (), {})()
        return self.grants.validate_bearer_token(access_token, ["openid"], request)
