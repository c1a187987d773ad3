"""The provider as one object: its state, its keys, and the steps that need several of them."""

from __future__ import annotations

import asyncio
import base64
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
from tidehub.identity.claims import CLAIMS_SUPPORTED
from tidehub.identity.config import SCOPES, IdentityConfig
from tidehub.identity.database import Database
from tidehub.identity.grants import Grants, Tokens
from tidehub.identity.keys import ALGORITHM, SigningKeys
from tidehub.identity.pages import Pages
from tidehub.identity.passwords import hash_password, verify_password
from tidehub.identity.private_files import read_private, write_private
from tidehub.identity.protocol import PROMPTS, AuthorizationRequest, Client
from tidehub.identity.sessions import Session, Sessions
from tidehub.identity.throttle import Throttle

_FORM_SECRET = "form-secret"
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
        self.grants = Grants(self.database, config.lifetimes)
        self.throttle = Throttle(self.database)
        self.keys = SigningKeys(config.state_dir)
        self.clients = {client.client_id: Client.load(client) for client in config.clients}
        self.pages = Pages(config.site_name, config.prefix)
        self.trusted_proxies = [ipaddress.ip_network(proxy, strict=False) for proxy in config.trusted_proxies]
        # Browsers do not keep cookies of different ports apart: two platforms on one machine need two names.
        mark = hashlib.sha256(config.issuer.encode()).hexdigest()[:8]
        secure = "__Secure-" if config.secure else ""
        self.session_cookie = f"{secure}tidehub-identity-{mark}"
        self.form_cookie = f"{secure}tidehub-identity-form-{mark}"
        self._form_secret = self._load_form_secret()
        self._nobody = hash_password(secrets.token_urlsafe(16))
        self._hashing = ThreadPoolExecutor(max_workers=2, thread_name_prefix="scrypt", initializer=_give_way)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def now(self) -> float:
        """The time, in seconds since the epoch."""
        return time.time()

    async def sign_in(self, username: str, password: str, address: str) -> SignIn:
        """Judge a name and a password from `address`, as slowly for unknown names as for known ones."""
        # One at a time for each name: many guesses at once cannot outrun the counting.
        turn = self._turns.setdefault(canonical(username), asyncio.Lock())
        async with turn:
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

    def code_for(self, request: AuthorizationRequest, session: Session) -> str:
        """The code that answers an authorization request of a signed-in person."""
        return self.grants.issue_code(
            client_id=request.client_id,
            session=session,
            scopes=request.scopes,
            nonce=request.nonce,
            redirect_uri=request.redirect_uri,
            challenge=request.challenge,
            now=self.now(),
        )

    def token_response(self, tokens: Tokens, *, nonce: str | None) -> dict[str, Any]:
        """The body of a successful token response, ID token included."""
        response = {
            "access_token": tokens.access_token,
            "token_type": "Bearer",
            "expires_in": self.config.lifetimes.access,
            "scope": " ".join(tokens.scopes),
        }
        if tokens.refresh_token is not None:
            response["refresh_token"] = tokens.refresh_token
        if "openid" in tokens.scopes:
            response["id_token"] = self._id_token(tokens, nonce)
        return response

    def _id_token(self, tokens: Tokens, nonce: str | None) -> str:
        """As at EGI Check-In, the ID token says who and when; groups come from userinfo alone."""
        now = int(self.now())
        half = hashlib.sha256(tokens.access_token.encode()).digest()[:16]
        claims: dict[str, Any] = {
            "iss": self.config.issuer,
            "sub": tokens.grant.sub,
            "aud": tokens.grant.client_id,
            "iat": now,
            "exp": now + self.config.lifetimes.id_token,
            "auth_time": tokens.grant.auth_time,
            "sid": tokens.grant.sid,
            "at_hash": base64.urlsafe_b64encode(half).decode().rstrip("="),
        }
        if nonce is not None:
            claims["nonce"] = nonce
        return self.keys.sign(claims)

    def hint(self, id_token: str) -> dict[str, Any] | None:
        """The claims of an ID token that this provider issued to one of its clients, expired or not; or None."""
        claims = self.keys.verified(id_token)
        if claims is None or claims.get("iss") != self.config.issuer:
            return None
        known = claims.get("aud") in self.clients if isinstance(claims.get("aud"), str) else False
        return claims if known and isinstance(claims.get("sub"), str) else None

    def sign_out(self, sid: str) -> None:
        """End a session and what it granted."""
        self.sessions.end(sid)
        self.grants.end_session(sid)

    def purge(self) -> None:
        """Drop what has expired."""
        now = self.now()
        self.sessions.purge(now)
        self.grants.purge(now)
        self.throttle.purge(now)

    def discovery(self) -> dict[str, Any]:
        """The provider's description (OpenID Connect Discovery 1.0, section 3): only what is implemented."""
        issuer = self.config.issuer
        authentication = ["client_secret_basic", "client_secret_post"]
        return {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/authorize",
            "token_endpoint": f"{issuer}/token",
            "userinfo_endpoint": f"{issuer}/userinfo",
            "jwks_uri": f"{issuer}/jwks",
            "revocation_endpoint": f"{issuer}/revoke",
            "end_session_endpoint": f"{issuer}/logout",
            "scopes_supported": list(SCOPES),
            "claims_supported": list(CLAIMS_SUPPORTED),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "code_challenge_methods_supported": ["S256"],
            "prompt_values_supported": list(PROMPTS),
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [ALGORITHM],
            "token_endpoint_auth_methods_supported": authentication,
            "revocation_endpoint_auth_methods_supported": authentication,
            "authorization_response_iss_parameter_supported": True,
            "claims_parameter_supported": False,
            "request_parameter_supported": False,
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
