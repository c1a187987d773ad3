"""Codes and tokens: what a signed-in user granted to the hub, as oauthlib asks about it.

One grant is the family of a code and all tokens that follow from it. The database holds only digests of codes and
tokens, which are random. All times are epoch seconds.
"""

from __future__ import annotations

import base64
import hmac
import logging
import re
import secrets
import sqlite3
import time
from collections.abc import Callable
from typing import Any

from oauthlib.openid.connect.core.request_validator import RequestValidator

from tidehub.identity.accounts import AccountStore
from tidehub.identity.claims import userinfo
from tidehub.identity.config import SCOPES, IdentityConfig
from tidehub.identity.keys import SigningKey
from tidehub.identity.sessions import digest

log = logging.getLogger("tidehub.identity")

_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


class Grants(RequestValidator):  # type: ignore[misc]
    """The state behind `protocol.Server`, whose methods call these; they run inside its transactions.

    `request.grant` is the row of the grant that a code or token belongs to, as soon as one is found.
    """

    def __init__(
        self,
        accounts: AccountStore,
        config: IdentityConfig,
        key: SigningKey,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = accounts.database
        self._accounts = accounts
        self._config = config
        self._client = config.client
        self._key = key
        self._clock = clock
        pair = f"{self._client.client_id}:{self._client.client_secret.get_secret_value()}"
        self._credentials = base64.b64encode(pair.encode())

    # The authorization request

    def validate_client_id(self, client_id: str, request: Any) -> bool:
        return client_id == self._client.client_id

    def validate_redirect_uri(self, client_id: str, redirect_uri: str, request: Any) -> bool:
        return redirect_uri == self._client.redirect_uri

    def get_default_redirect_uri(self, client_id: str, request: Any) -> None:
        return None

    def validate_response_type(self, client_id: str, response_type: str, client: Any, request: Any) -> bool:
        return response_type == "code"

    def is_pkce_required(self, client_id: str, request: Any) -> bool:
        return True

    def get_default_scopes(self, client_id: str, request: Any) -> list[str]:
        return []

    def validate_scopes(self, client_id: str, scopes: list[str], client: Any, request: Any) -> bool:
        return "openid" in scopes and set(scopes) <= set(SCOPES)

    def validate_user_match(self, id_token_hint: None, scopes: Any, claims: None, request: Any) -> bool:
        return True  # `protocol.narrow` lets neither a hint nor claims through

    def save_authorization_code(self, client_id: str, code: dict[str, str], request: Any) -> None:
        """A new grant of `request.session`, and the code that opens it once."""
        grant_id, session = secrets.token_hex(16), request.session
        scope = " ".join(dict.fromkeys(request.scopes))
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO grants (id, client_id, sub, scope, nonce, auth_time, sid)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (grant_id, client_id, session.sub, scope, request.nonce, session.auth_time, session.sid),
            )
            connection.execute(
                "INSERT INTO codes (hash, grant_id, redirect_uri, challenge, expires) VALUES (?, ?, ?, ?, ?)",
                (
                    digest(code["code"]),
                    grant_id,
                    request.redirect_uri,
                    request.code_challenge,
                    self._clock() + self._config.lifetimes.code,
                ),
            )

    # The token request

    def authenticate_client(self, request: Any) -> bool:
        """The hub by HTTP Basic (RFC 6749, 2.3.1), and nobody in another way."""
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode(), self._credentials)
        request.client = self._client
        return scheme.lower() == "basic" and right and request.client_id in (None, self._client.client_id)

    def validate_grant_type(self, client_id: str, grant_type: str, client: Any, request: Any) -> bool:
        return grant_type in ("authorization_code", "refresh_token")

    def validate_code(self, client_id: str, code: str, client: Any, request: Any) -> bool:
        """Whether the code opens its grant. The right client has one try: wrong proof spends the code as well.

        A spent code that comes again revokes its whole grant (RFC 6749, 4.1.2). A code in foreign hands gives
        nothing and stays the owner's.
        """
        row = self._found("codes", code)
        if row is None or row["spent"] or row["client_id"] != client_id:
            return False
        self._connection.execute("UPDATE codes SET spent = 1 WHERE hash = ?", (digest(code),))
        request.grant, request.scopes = row, row["scope"].split()
        return (
            not row["revoked"]
            and row["expires"] > self._clock()
            # Here, because oauthlib would answer a wrong address with invalid_request (RFC 6749, 5.2).
            and row["redirect_uri"] == request.redirect_uri
            and _VERIFIER.fullmatch(request.code_verifier) is not None
        )

    def get_code_challenge(self, code: str, request: Any) -> str:
        return str(request.grant["challenge"])

    def get_code_challenge_method(self, code: str, request: Any) -> str:
        return "S256"

    def confirm_redirect_uri(
        self, client_id: str, code: str, redirect_uri: str, client: Any, request: Any
    ) -> bool:
        return bool(request.grant["redirect_uri"] == redirect_uri)

    def get_authorization_code_nonce(
        self, client_id: str, code: str, redirect_uri: str, request: Any
    ) -> str | None:
        nonce: str | None = request.grant["nonce"]
        return nonce

    def invalidate_authorization_code(self, client_id: str, code: str, request: Any) -> None:
        """Nothing: `validate_code` spent it."""

    def validate_refresh_token(self, token: str, client: Any, request: Any) -> bool:
        """Whether the token is good for new ones. One that was spent revokes its family: the old or the new one
        was stolen (RFC 9700, 4.14.2).
        """
        row = self._found("refresh_tokens", token)
        if row is None or row["spent"] or row["client_id"] != client.client_id:
            return False
        request.grant = row
        return not row["revoked"] and bool(row["expires"] > self._clock())

    def get_original_scopes(self, token: str, request: Any) -> str:
        return str(request.grant["scope"])

    def save_bearer_token(self, token: dict[str, Any], request: Any) -> None:
        """Keep fresh tokens. The refresh token that gave them is spent."""
        connection, now, grant_id = self._connection, self._clock(), request.grant["grant_id"]
        if request.grant_type == "refresh_token":
            spent = (digest(request.refresh_token),)
            connection.execute("UPDATE refresh_tokens SET spent = 1 WHERE hash = ?", spent)
        connection.execute(
            "INSERT INTO access_tokens (hash, grant_id, scope, expires) VALUES (?, ?, ?, ?)",
            (
                digest(token["access_token"]),
                grant_id,
                " ".join(request.scopes),
                now + self._config.lifetimes.access,
            ),
        )
        if "refresh_token" in token:
            connection.execute(
                "INSERT INTO refresh_tokens (hash, grant_id, expires) VALUES (?, ?, ?)",
                (digest(token["refresh_token"]), grant_id, now + self._config.lifetimes.refresh),
            )

    def finalize_id_token(
        self, id_token: dict[str, Any], token: dict[str, Any], handler: Any, request: Any
    ) -> str:
        """As at EGI Check-In, the ID token says who and when; groups come from userinfo alone."""
        return self._key.sign(
            {
                **id_token,
                "iss": self._config.issuer,
                "sub": request.grant["sub"],
                "exp": id_token["iat"] + self._config.lifetimes.id_token,
                "auth_time": request.grant["auth_time"],
                "sid": request.grant["sid"],
            }
        )

    # Userinfo

    def validate_bearer_token(self, token: str | None, scopes: list[str], request: Any) -> bool:
        row = self._connection.execute(
            "SELECT grants.sub, access_tokens.scope FROM access_tokens JOIN grants ON grants.id = grant_id"
            " WHERE hash = ? AND expires > ? AND NOT revoked",
            (digest(token or ""), self._clock()),
        ).fetchone()
        request.user = self._accounts.by_sub(row["sub"]) if row is not None else None
        if request.user is None:
            return False
        request.scopes = row["scope"].split()
        return True

    def get_userinfo_claims(self, request: Any) -> dict[str, Any]:
        return userinfo(request.user, request.scopes)

    # The ends

    def end_session(self, sid: str) -> None:
        """Revoke what a signed-out session granted, except offline access, whose sense is to outlive it.

        Codes not yet redeemed end in any case.
        """
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE codes SET expires = 0"
                " WHERE NOT spent AND grant_id IN (SELECT id FROM grants WHERE sid = ?)",
                (sid,),
            )
            for row in connection.execute("SELECT id, scope FROM grants WHERE sid = ?", (sid,)).fetchall():
                if "offline_access" not in row["scope"].split():
                    self._revoke(row["id"])

    def purge(self) -> None:
        """Drop grants that nothing valid hangs on; what is spent stays known as long as its grant lives."""
        now = self._clock()
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM grants WHERE"
                " id NOT IN (SELECT grant_id FROM codes WHERE expires > :now)"
                " AND id NOT IN (SELECT grant_id FROM access_tokens WHERE expires > :now)"
                " AND id NOT IN (SELECT grant_id FROM refresh_tokens WHERE expires > :now)",
                {"now": now},
            )
            connection.execute("DELETE FROM access_tokens WHERE expires <= ?", (now,))

    @property
    def _connection(self) -> sqlite3.Connection:
        return self._database.connection

    def _found(self, table: str, secret: str) -> sqlite3.Row | None:
        """A code's or token's row with its grant's. A spent one that comes again revokes everything granted."""
        row: sqlite3.Row | None = self._connection.execute(
            f"SELECT * FROM {table} JOIN grants ON grants.id = grant_id WHERE hash = ?", (digest(secret),)
        ).fetchone()
        if row is not None and row["spent"]:
            log.warning("one of the %s was used before; everything granted with it is revoked", table)
            self._revoke(row["grant_id"])
        return row

    def _revoke(self, grant_id: str) -> None:
        self._connection.execute("UPDATE grants SET revoked = 1 WHERE id = ?", (grant_id,))
        self._connection.execute("DELETE FROM access_tokens WHERE grant_id = ?", (grant_id,))
