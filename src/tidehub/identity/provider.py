"""The provider as one object: its state, its keys, and the steps that need several of them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import ipaddress
import os
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from tidehub.identity.accounts import Account, AccountStore, canonical
from tidehub.identity.addresses import front_proof
from tidehub.identity.config import SCOPES, IdentityConfig
from tidehub.identity.database import Database
from tidehub.identity.grants import Grants
from tidehub.identity.keys import ALGORITHM, SigningKey
from tidehub.identity.pages import Pages
from tidehub.identity.passwords import hash_password, verify_password
from tidehub.identity.private_files import read_private
from tidehub.identity.protocol import Parameters, Server, with_parameters
from tidehub.identity.sessions import Session, Sessions
from tidehub.identity.throttle import Throttle, address_key
from tidehub.system.files import write_private

_FORM_SECRET = "form-secret"
TOGETHER = 2
"""Passwords that are checked at the same time."""
HASHING_NICE = 10
"""Niceness of the threads that check passwords."""


@dataclass(frozen=True)
class SignIn:
    """The outcome of a name and a password. Without an account, `wait` says how many seconds to wait (0.0: none).

    `tried` is False when the password was not even looked at.
    """

    account: Account | None
    wait: float = 0.0
    tried: bool = True


class Provider:
    """Everything behind the endpoints. Raises `TidehubError` when state or secrets cannot be used."""

    def __init__(self, config: IdentityConfig) -> None:
        self.config = config
        self.database = Database(config.state_dir)
        self.accounts = AccountStore(self.database)
        self.sessions = Sessions(self.database, config.lifetimes.session)
        self.throttle = Throttle(self.database)
        self.key = SigningKey(config.state_dir)
        self.grants = Grants(self.accounts, config, self.key)
        self.server = Server(self.grants, access_lifetime=config.lifetimes.access)
        self.pages = Pages(config.site_name, config.prefix, config.contact)
        self.trusted_proxies = [ipaddress.ip_network(proxy, strict=False) for proxy in config.trusted_proxies]
        # Browsers do not keep cookies of different ports apart: two platforms on one machine need two names.
        mark = hashlib.sha256(config.issuer.encode()).hexdigest()[:8]
        secure = "__Secure-" if config.secure else ""
        self.session_cookie = f"{secure}tidehub-identity-{mark}"
        self.form_cookie = f"{secure}tidehub-identity-form-{mark}"
        self.front_proof = front_proof(config.client.client_secret.get_secret_value())
        self._form_secret = self._load_form_secret()
        self._nobody = hash_password(secrets.token_urlsafe(16))
        self._hashing = ThreadPoolExecutor(
            max_workers=TOGETHER, thread_name_prefix="scrypt", initializer=_give_way
        )
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._places: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def now(self) -> float:
        """The time, in seconds since the epoch."""
        return time.time()

    async def sign_in(self, username: str, password: str, address: str) -> SignIn:
        """Judge a name and a password from `address`, as slowly for unknown names as for known ones."""
        # One at a time for each name, and as many from one address as are checked together: many guesses at once cannot
        # outrun the counting, and the guesses of one address do not stand in a line before everybody else.
        turn = self._turns.setdefault(canonical(username), asyncio.Lock())
        place = self._places.setdefault(address_key(address), asyncio.Semaphore(TOGETHER))
        async with place, turn:
            wait = self.throttle.wait(username, address, self.now())
            if wait > 0:
                return SignIn(None, wait, tried=False)
            stored = self.accounts.password_hash(username)
            loop = asyncio.get_running_loop()
            right = await loop.run_in_executor(
                self._hashing, verify_password, password, stored or self._nobody
            )
            account = self.accounts.get(username)
            if stored is None or not right or account is None:
                return SignIn(None, self.throttle.failed(username, address, self.now()))
            self.throttle.succeeded(username)
            return SignIn(account)

    def new_form_cookie(self) -> str:
        """The value of a fresh form cookie."""
        return secrets.token_urlsafe(32)

    def form_token(self, cookie: str) -> str:
        """What a form must carry beside the form cookie (a signed double submit)."""
        return hmac.new(self._form_secret, cookie.encode(), hashlib.sha256).hexdigest()

    def form_is_ours(self, cookie: str | None, token: str | None) -> bool:
        """Whether a form came from a page that this provider showed to this browser."""
        if not cookie or not token:
            return False
        return hmac.compare_digest(self.form_token(cookie).encode(), token.encode())

    def judge(self, parameters: Parameters) -> str:
        """The address to return to from an acceptable authorization request. Raises `OAuth2Error`."""
        _, request = self.server.validate_authorization_request(self._authorization(parameters))
        return str(request["redirect_uri"])

    def way_back(self, parameters: Parameters, session: Session) -> str:
        """Where the browser of a signed-in user goes, with a code. Raises `OAuth2Error`."""
        headers, _, _ = self.server.create_authorization_response(
            self._authorization(parameters), credentials={"session": session}
        )
        return self.with_issuer(headers["Location"])

    def with_issuer(self, address: str) -> str:
        """An answer to the client that says who answers (RFC 9207, which oauthlib does not know)."""
        return with_parameters(address, [("iss", self.config.issuer)])

    def _authorization(self, parameters: Parameters) -> str:
        return with_parameters(f"{self.config.issuer}/authorize", parameters)

    def tokens(self, form: dict[str, str], authorization: str) -> tuple[str, int]:
        """The answer of the token endpoint as JSON, and its status. What is spent is spent by a refusal, too."""
        with self.database.transaction():
            _, body, status = self.server.create_token_response(
                "/token", body=form, headers={"Authorization": authorization}
            )
        return body, status

    def userinfo(self, authorization: str) -> str:
        """The claims behind an access token, as JSON. Raises `OAuth2Error`."""
        _, body, _ = self.server.create_userinfo_response(
            "/userinfo", headers={"Authorization": authorization}
        )
        return str(body)

    def hint(self, id_token: str) -> dict[str, Any] | None:
        """The claims of an ID token that this provider issued to the hub, expired or not; or None."""
        client_id = self.config.client.client_id
        return self.key.verified(id_token, issuer=self.config.issuer, audience=client_id)

    def sign_out(self, sid: str) -> None:
        """End a session and what it granted."""
        self.sessions.end(sid)
        self.grants.end_session(sid)

    def purge(self) -> None:
        """Drop what has expired."""
        now = self.now()
        self.sessions.purge(now)
        self.grants.purge()
        self.throttle.purge(now)

    def discovery(self) -> dict[str, Any]:
        """The provider's description (OpenID Connect Discovery 1.0, section 3): only what is implemented."""
        issuer = self.config.issuer
        return {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/authorize",
            "token_endpoint": f"{issuer}/token",
            "userinfo_endpoint": f"{issuer}/userinfo",
            "jwks_uri": f"{issuer}/jwks",
            "end_session_endpoint": f"{issuer}/logout",
            "scopes_supported": list(SCOPES),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "code_challenge_methods_supported": ["S256"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [ALGORITHM],
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            "authorization_response_iss_parameter_supported": True,
            "request_uri_parameter_supported": False,
        }

    def close(self) -> None:
        """Let go of the database and the threads."""
        self._hashing.shutdown(wait=True, cancel_futures=True)
        self.database.close()

    def _load_form_secret(self) -> bytes:
        path = self.config.state_dir / _FORM_SECRET
        if not path.exists():
            write_private(path, secrets.token_hex(32))
        return read_private(path, "The secret of the sign-in form").encode()


def _give_way() -> None:
    """Let everything else go before the thread that calls this: a class that signs in at once keeps two processors busy
    for half a minute. Niceness belongs to a thread on Linux (setpriority(2), notes), and counts within a control group;
    among those of the parts, `local/isolation` sees to it."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), HASHING_NICE)
