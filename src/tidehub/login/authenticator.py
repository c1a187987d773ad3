"""The hub's authenticator: oauthenticator's generic OpenID Connect class with the site's own admission rule.

Who may enter is decided in `tidehub.login.rule`; this class carries claims there and words back. It serves both
targets: on Kubernetes its text, and that of the modules it imports, travels in the hub's configuration
(`hub_text.py`), so nothing is imported here that the upstream hub image lacks. Overrides exist only where upstream
(oauthenticator 17.4, JupyterHub 5.5) fails a user or a site:

- it does not look at the ID token; here its signature, issuer, audience, age, nonce and subject must be right;
- it knows users by a name that may change hands; here by the provider's subject (`users.py`);
- a refused, replayed or foreign code answers 500; here 403 with a sentence;
- it never asks again whether a member is still one; here every refresh does, and so does `revocation.py` for
  users who do not click;
- it ends sessions when the provider is briefly down; here they go on for a while;
- it refreshes twice when two requests come at once, which providers take for a stolen token.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from oauthenticator.generic import GenericOAuthenticator
from tornado import web
from tornado.httpclient import HTTPClientError
from traitlets import Bool, Dict, Float, Set, Unicode

from tidehub.login import log_scrub
from tidehub.login import rule as admission
from tidehub.login.handlers import CallbackHandler, LoginHandler, LogoutHandler, SignInFailed
from tidehub.login.id_token import InvalidIdToken, KeySet, verify
from tidehub.login.pages import end_session, name_page, refusal_page
from tidehub.login.revocation import Revocation
from tidehub.login.users import Identity, KnownUsers, NameTaken

CONFIRMED, REFUSED, UNSURE, STALE = "confirmed", "refused", "unsure", "stale"
"""What asking the provider again gave: still a member; no longer one; no answer; only a new sign-in can say."""


class ProviderUnavailable(web.HTTPError):
    """The identity provider does not answer or answers with a fault of its own; `code` is its HTTP status, if any."""

    def __init__(self, detail: str, code: int = 0) -> None:
        super().__init__(503, "the identity provider does not answer: %s", detail)
        self.jupyterhub_message = (
            "The identity provider's disk is full, so nobody can sign in until its operators have made room."
            if code == HTTPStatus.INSUFFICIENT_STORAGE
            else "The identity provider does not answer at the moment. Please try again in a minute."
        )


class Refused(web.HTTPError):
    """The user is known but not admitted. The page says why and where to ask."""

    def __init__(self, detail: str, page: str) -> None:
        super().__init__(403, "%s", detail)
        self.jupyterhub_html_message = page


@dataclass
class _Asking:
    """One refresh of one user, while it is under way."""

    user: Any
    auth_state: dict[str, Any]
    outage: bool = False
    revoked: bool = False


@dataclass
class _Seen:
    """What the last refresh of a user gave, and the lock that makes refreshes wait for each other."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    at: float = float("-inf")
    verdict: str = UNSURE


_asking: ContextVar[_Asking | None] = ContextVar("refresh under way", default=None)


class SiteAuthenticator(GenericOAuthenticator):  # type: ignore[misc]
    """OpenID Connect login whose admission rule is the site's."""

    login_handler = LoginHandler
    callback_handler = CallbackHandler
    logout_handler = LogoutHandler

    rule = Dict(config=True, help="The site's admission rule, as tidehub.login.rule takes it.")
    words = Dict(config=True, help="The site for its pages: name, contact, enrolment_url.")
    issuer = Unicode(config=True, help="The provider's issuer, byte for byte.")
    issuer_in_answers = Bool(
        False, config=True, help="Whether the provider's answers always carry iss (RFC 9207)."
    )
    realm = Unicode(config=True, help="Stands for the issuer in the table of users. Empty: the issuer.")
    jwks_url = Unicode(config=True, help="Where the provider's public keys are.")
    end_session_url = Unicode("", config=True, help="Where a browser ends the provider's session; or empty.")
    signed_out_url = Unicode("", config=True, help="Where the provider sends users after that; or empty.")
    stated_names = Dict(config=True, help="Subject to user name, as the operator states it.")
    blocked_subjects = Set(config=True, help="Subjects that may not enter, whatever the rule says.")
    check_every = Float(300.0, config=True, help="Seconds within which a lost membership takes effect.")
    grace = Float(86400.0, config=True, help="Seconds that users go on while the provider does not answer.")
    gateway_url = Unicode("", config=True, help="Dask Gateway's address, to end clusters; or empty.")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._keys = KeySet(self._fetch_keys)
        self._known_users: KnownUsers | None = None
        self._seen: dict[str, _Seen] = {}
        self.revocation: Revocation | None = None

    def get_handlers(self, app: Any) -> list[Any]:
        log_scrub.install()
        if self.revocation is None:
            self.revocation = Revocation(self, app)
            self.revocation.begin()
        return list(super().get_handlers(app))

    @property
    def known_users(self) -> KnownUsers:
        """The table of who is behind a user name."""
        if self._known_users is None:
            self._known_users = KnownUsers(self.parent.db, self.stated_names)
        return self._known_users

    # --- admission --------------------------------------------------------------------------

    def decide(self, name: str, claims: dict[str, Any]) -> admission.Decision:
        """The site's decision on a user's claims; `name` is theirs here, which counts, not the presented one."""
        return admission.decide({**claims, self.rule["username_claim"]: name}, self.rule)

    def identity(self, claims: dict[str, Any]) -> Identity:
        """Who these claims are about. Raises `SignInFailed`."""
        sub = claims.get("sub")
        if not isinstance(sub, str) or not sub or len(sub) > 255:
            raise SignInFailed("the userinfo names no subject (sub)")
        return Identity(self.realm or self.issuer, sub)

    def user_info_to_username(self, user_info: dict[str, Any]) -> str:
        who = self.identity(user_info)
        presented, fault = admission.username_of(user_info, self.rule["username_claim"])
        name = self.known_users.name_of(who, presented)
        if not name:
            raise SignInFailed(f"no usable user name for {who.sub}: {fault}", fault)
        return name

    async def update_auth_model(self, auth_model: dict[str, Any]) -> dict[str, Any]:
        claims = auth_model["auth_state"]["oauth_user"]
        auth_model["admin"] = self.decide(auth_model["name"], claims).admin
        return auth_model

    async def get_user_groups(self, auth_state: dict[str, Any]) -> set[str]:
        claims = auth_state.get("oauth_user") or {}
        return set(admission.decide(claims, self.rule).groups)

    def is_blocked(self, name: str, who: Identity | None) -> bool:
        """Whether the operator has blocked this user name or subject."""
        return name in self.blocked_users or (who is not None and who.sub in self.blocked_subjects)

    def check_blocked_users(self, username: str, authentication: Any = None) -> bool:
        # `check_allowed` refuses them with a page; upstream's answer says nothing.
        return True

    async def check_allowed(self, username: str, auth_model: dict[str, Any] | None) -> bool:
        if auth_model is None:
            return False
        auth_state = auth_model.get("auth_state") or {}
        claims = auth_state.get("oauth_user") or {}
        who = self.identity(claims)
        elsewhere = self.end_session_address(auth_state.get("id_token"))
        decision = self.decide(username, claims)
        for line in notes(decision):
            self.log.info("%s (%s): %s", username, who.sub, line)
        if self.is_blocked(username, who):
            decision = decision._replace(
                admitted=False, reason=f"{username} is blocked by the administrators of this site."
            )
        if not decision.admitted:
            detail = f"refused {username} ({who.sub}): {decision.reason}"
            self.log.warning("%s", detail)
            raise Refused(detail, refusal_page(decision, self.words, elsewhere))
        try:
            self.known_users.bind(username, who)
        except NameTaken as taken:
            detail = (
                f"refused {who.sub}: {taken}. If they belong to the same user, or shall have another name, "
                f"say so in the site file: login.names: {{{who.sub}: NAME}}"
            )
            self.log.warning("%s", detail)
            raise Refused(detail, name_page(username, self.words, elsewhere)) from None
        self.log.info("admitted %s (%s) by %s", username, who.sub, decision.rule)
        self._seen_now(username, CONFIRMED)
        return True

    # --- asking again -----------------------------------------------------------------------

    async def refresh_user(self, user: Any, handler: Any = None, **kwargs: Any) -> Any:
        verdict, model = await self.ask_again(user, handler)
        if verdict == CONFIRMED:
            return model
        if verdict == UNSURE:
            return not self.too_long_unsure(user.name)
        if verdict == REFUSED and self.revocation is not None:
            self.revocation.end_soon(user, "the membership is lost")
        return False

    async def ask_again(self, user: Any, handler: Any = None) -> tuple[str, Any]:
        """Asks the provider about a user, one question at a time: a verdict, and the hub's model or True."""
        arrived = time.monotonic()
        seen = self._seen.setdefault(user.name, _Seen())
        async with seen.lock:
            if seen.at > arrived:
                # Somebody else asked while we waited. Their answer holds for us.
                return seen.verdict, seen.verdict == CONFIRMED
            verdict, model = await self._ask(user, handler)
            self._seen_now(user.name, verdict)
            return verdict, model

    def last_asked(self, name: str) -> float:
        """When this user was last asked about, on the monotonic clock."""
        seen = self._seen.get(name)
        return seen.at if seen else float("-inf")

    def too_long_unsure(self, name: str) -> bool:
        """Whether the provider has confirmed nothing about this user for longer than the grace."""
        unsure = self.known_users.unconfirmed_for(name)
        return unsure is not None and unsure > self.grace

    def _seen_now(self, name: str, verdict: str) -> None:
        seen = self._seen.setdefault(name, _Seen())
        seen.at, seen.verdict = time.monotonic(), verdict

    async def _ask(self, user: Any, handler: Any) -> tuple[str, Any]:
        owner = self.known_users.owner_of(user.name)
        if self.is_blocked(user.name, owner):
            self.log.warning("%s is blocked", user.name)
            return REFUSED, None
        auth_state = await user.get_auth_state()
        if not auth_state or "token_response" not in auth_state:
            return STALE, None
        asking = _Asking(user, auth_state)
        token = _asking.set(asking)
        try:
            model = await super().refresh_user(user, handler)
        except ProviderUnavailable as error:
            self.log.warning("keeping the session of %s: %s", user.name, error)
            return UNSURE, None
        except web.HTTPError as error:
            self.log.warning("%s must sign in again: %s", user.name, error)
            return STALE, None
        finally:
            _asking.reset(token)
        if not isinstance(model, dict):
            # Upstream takes every failure of the token endpoint for a lost membership, an outage too.
            verdict = REFUSED if asking.revoked else UNSURE if asking.outage else STALE
            self.log.warning("the provider does not confirm %s (%s)", user.name, verdict)
            return verdict, None
        return await self._judge(user, auth_state, model)

    async def _judge(self, user: Any, before: dict[str, Any], model: dict[str, Any]) -> tuple[str, Any]:
        claims = model["auth_state"]["oauth_user"]
        who = self.identity(claims)
        known = before.get("oauth_user") or {}
        if known.get("sub") not in (None, who.sub):
            self.log.error("%s: the userinfo is suddenly about %s", user.name, who.sub)
            return REFUSED, None
        model["name"] = user.name
        decision = self.decide(user.name, claims)
        if self.is_blocked(user.name, who) or not decision.admitted:
            self.log.warning("%s is no longer admitted: %s", user.name, decision.reason)
            return REFUSED, None
        try:
            self.known_users.bind(user.name, who)
        except NameTaken as taken:
            self.log.warning("%s is no longer admitted: %s", user.name, taken)
            return REFUSED, None
        model["admin"] = decision.admin
        state = model["auth_state"]
        state["id_token"] = state.get("id_token") or before.get("id_token")
        # Before the lock is given away: the next one must not send a refresh token that is spent.
        await user.save_auth_state(state)
        return CONFIRMED, model

    # --- talking to the provider ------------------------------------------------------------

    async def authenticate(self, handler: Any, data: Any = None, **kwargs: Any) -> dict[str, Any]:
        params = self.build_access_tokens_request_params(handler, data)
        token_info = await self.get_token_info(handler, params)
        claims = await self._verified(token_info, nonce=handler.nonce())
        model: dict[str, Any] = await self._token_to_auth_model(token_info)
        if self.identity(model["auth_state"]["oauth_user"]).sub != claims["sub"]:
            raise SignInFailed("the userinfo is about another user than the ID token (sub)")
        return model

    async def _verified(self, token_info: dict[str, Any], *, nonce: str | None) -> dict[str, Any]:
        try:
            return await verify(
                token_info.get("id_token"),
                self._keys,
                issuer=self.issuer,
                client_id=self.client_id,
                nonce=nonce,
                access_token=token_info.get("access_token"),
            )
        except InvalidIdToken as error:
            raise SignInFailed(
                str(error), "The identity provider's answer could not be verified, so you were not signed in."
            ) from None

    async def get_token_info(self, handler: Any, params: dict[str, Any]) -> Any:
        refreshing = _asking.get() if params.get("grant_type") == "refresh_token" else None
        try:
            token_info = await super().get_token_info(handler, {k: v for k, v in params.items() if v})
        except HTTPClientError as error:
            code = _oauth_error(error)
            if refreshing is not None and code == "invalid_grant":
                refreshing.revoked = True
            elif refreshing is not None:
                # Our own secret is wrong, say: that is not a verdict about the user.
                refreshing.outage = True
            raise SignInFailed(
                f"the token endpoint answered {error.code} {code}: the code or token is spent, foreign or too old"
                if code == "invalid_grant"
                else f"the token endpoint answered {error.code} {code}"
            ) from None
        if refreshing is not None:
            await self._keep_refreshed(refreshing, token_info)
        return token_info

    async def _keep_refreshed(self, refreshing: _Asking, token_info: dict[str, Any]) -> None:
        """At once: should anything fail from here on, the old refresh token is spent all the same."""
        state = refreshing.auth_state
        kept = {
            "access_token": token_info["access_token"],
            "refresh_token": token_info.get("refresh_token") or state.get("refresh_token"),
        }
        state.update(kept, token_response={**token_info, **kept})
        await refreshing.user.save_auth_state(state)
        if "id_token" in token_info:
            claims = await self._verified(token_info, nonce=None)
            if (state.get("oauth_user") or {}).get("sub") not in (None, claims["sub"]):
                raise SignInFailed("the refreshed ID token is about another user (sub)")

    async def _fetch_keys(self) -> Any:
        return await self.httpfetch(
            self.jwks_url, "Fetching the provider's keys", validate_cert=self.validate_server_cert
        )

    async def httpfetch(self, url: str, label: str = "fetching", **kwargs: Any) -> Any:
        try:
            return await super().httpfetch(url, label, **kwargs)
        except HTTPClientError as error:
            if error.code >= 500:  # 599 is tornado's own number for a time-out
                self._note_outage()
                raise ProviderUnavailable(f"code {error.code}", error.code) from None
            raise
        except (TimeoutError, OSError, ValueError) as error:
            # ValueError: an answer that is not JSON, from a proxy in between.
            self._note_outage()
            raise ProviderUnavailable(type(error).__name__) from None

    @staticmethod
    def _note_outage() -> None:
        asking = _asking.get()
        if asking is not None:
            asking.outage = True

    def end_session_address(self, id_token: str | None) -> str | None:
        """Where a browser ends the provider's session, for the user of this ID token."""
        return end_session(
            self.end_session_url,
            id_token=id_token,
            client_id=self.client_id,
            return_to=self.signed_out_url or None,
        )


def notes(decision: admission.Decision, most: int = 5) -> list[str]:
    """What an operator should know of a user's claims beside the outcome: entries that never admit a user, look-alikes.

    Once a sign-in, and `most` of each: real users have capabilities and other entries by the dozen.
    """
    skipped = [f"skipped {value!r}: {reason}" for value, reason in decision.skipped]
    found = []
    for lines in (skipped, list(decision.remarks)):
        found += lines[:most] + ([f"and {len(lines) - most} more"] if len(lines) > most else [])
    return found


def _oauth_error(error: HTTPClientError) -> str:
    """The error code of a token endpoint (RFC 6749, 5.2); a plain word, because it goes to the log."""
    try:
        code = json.loads(error.response.body if error.response else b"")["error"]
    except (ValueError, KeyError, TypeError):
        return "without an error code"
    return code if isinstance(code, str) and code.isascii() and code.isidentifier() else "(odd error code)"
