"""The hub's login addresses: oauthenticator's handlers, with nonce, issuer and pages for users.

Upstream (oauthenticator 17.4) sends no nonce, takes an error text from the address before it looks at the state,
sets its state cookie for the whole host, so that every notebook server is sent it, and ends only the hub's own
session at sign-out.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from oauthenticator.oauth2 import (
    STATE_COOKIE_NAME,
    OAuthCallbackHandler,
    OAuthLoginHandler,
    OAuthLogoutHandler,
    _deserialize_state,
)
from tornado import web

from tidehub.login.pages import failure_page

AGAIN = (
    "The sign-in was not completed. It may have taken too long, or been used already. Please sign in again."
)
KNOWN_ERRORS = {
    "access_denied": "The identity provider did not let you through, or you declined.",
    "login_required": "The identity provider asks you to sign in again.",
    "interaction_required": "The identity provider asks you to sign in again.",
    "consent_required": "The identity provider asks for your consent.",
    "temporarily_unavailable": "The identity provider is busy. Please try again in a minute.",
    "server_error": "The identity provider had a fault. Please try again in a minute.",
    "invalid_scope": "The identity provider does not grant what this site asks for. Its operator can change that.",
    "unauthorized_client": "The identity provider does not know this site well. Its operator can change that.",
}
"""OAuth error codes (RFC 6749, 4.1.2.1; OpenID Connect Core, 3.1.2.6) in words. Other texts are not shown: anybody
can write an address that holds some."""


class SignInFailed(web.HTTPError):
    """A sign-in that proves nothing. `detail` is for the log, `words` for the user; neither holds a secret."""

    def __init__(self, detail: str, words: str = AGAIN, status: int = 403) -> None:
        super().__init__(status, "sign-in failed: %s", detail)
        self.jupyterhub_message = words


def nonce_for(code_challenge: str) -> str:
    """The nonce of a sign-in. It follows from the PKCE verifier in the signed cookie, so nothing else is kept."""
    return _base64(hashlib.sha256(b"nonce:" + code_challenge.encode()).digest())


def challenge_of(code_verifier: str) -> str:
    """The S256 challenge of a PKCE verifier (RFC 7636, 4.2)."""
    return _base64(hashlib.sha256(code_verifier.encode()).digest())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class LoginHandler(OAuthLoginHandler):  # type: ignore[misc]
    """Sends users to the identity provider."""

    def authorize_redirect(self, *args: Any, **kwargs: Any) -> None:
        extra = kwargs.get("extra_params") or {}
        kwargs["extra_params"] = {**extra, "nonce": nonce_for(extra["code_challenge"])}
        super().authorize_redirect(*args, **kwargs)

    def set_state_cookie(self, state_cookie_value: str) -> None:
        self._set_cookie(STATE_COOKIE_NAME, state_cookie_value, expires_days=1, path=self.hub.base_url)


class CallbackHandler(OAuthCallbackHandler):  # type: ignore[misc]
    """Where users come back to."""

    _state_cookie: str | None

    async def get(self) -> None:
        try:
            await super().get()
        except web.HTTPError as error:
            if error.status_code < 500 and not hasattr(error, "jupyterhub_html_message"):
                words = getattr(error, "jupyterhub_message", AGAIN)
                error.jupyterhub_html_message = failure_page(  # type: ignore[attr-defined]
                    words, self.authenticator.login_url(self.hub.base_url)
                )
            raise

    def check_state(self) -> None:
        try:
            super().check_state()
        except (AttributeError, TypeError, ValueError):
            # Base64 of something else than a JSON object, or no ASCII: upstream answers 500.
            raise SignInFailed("this hub did not make the OAuth state", status=400) from None

    def check_arguments(self) -> None:
        self.check_state()
        issuer = self.get_argument("iss", None)
        expected = self.authenticator.issuer
        # RFC 9207: otherwise a malicious provider could pass on a code of this one.
        if issuer is not None and issuer != expected:
            raise SignInFailed("the answer is another issuer's (iss)")
        if issuer is None and self.authenticator.issuer_in_answers:
            raise SignInFailed("the answer names no issuer (iss), and this provider always does")
        error = self.get_argument("error", "")
        if error:
            shown = error if error in KNOWN_ERRORS else "an unknown error code"
            raise SignInFailed(
                f"the identity provider answered {shown}",
                KNOWN_ERRORS.get(error, "The identity provider did not complete the sign-in."),
            )
        self.check_code()

    def get_state_cookie(self) -> str:
        if self._state_cookie is None:
            raw = self.get_secure_cookie(STATE_COOKIE_NAME, max_age_days=1)
            self._state_cookie = (raw or b"").decode("utf-8", "replace")
            self.clear_cookie(STATE_COOKIE_NAME, path=self.hub.base_url)
        return self._state_cookie

    def nonce(self) -> str:
        """The nonce that this browser's authorization request carried. Raises `SignInFailed`."""
        verifier = _deserialize_state(self.get_state_cookie()).get("code_verifier")
        if not verifier:
            raise SignInFailed("the sign-in was not begun here (no verifier in the cookie)", status=400)
        return nonce_for(challenge_of(str(verifier)))

    def get_next_url(self, user: Any = None) -> str:
        url = str(super().get_next_url(user))
        begins_well = url.startswith(self.base_url) and not url.startswith("//")
        plain = url.isprintable() and "\\" not in url
        return url if begins_well and plain else f"{self.hub.base_url}home"


class LogoutHandler(OAuthLogoutHandler):  # type: ignore[misc]
    """Ends the hub's session, then the provider's."""

    _provider_url: str | None = None

    async def handle_logout(self) -> None:
        self.clear_cookie(STATE_COOKIE_NAME, path=self.hub.base_url)
        user = self.current_user
        if user is not None and getattr(user, "kind", "user") == "user":
            state = await user.get_auth_state() or {}
            self._provider_url = self.authenticator.end_session_address(state.get("id_token"))

    async def render_logout_page(self) -> None:
        if self._provider_url:
            self.redirect(self._provider_url)
        else:
            # Nobody was signed in here: no reason to send a browser anywhere.
            self.redirect(self.settings["login_url"], permanent=False)
