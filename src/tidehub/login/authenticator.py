"""The hub's authenticator: oauthenticator's generic OpenID Connect class with the site's own admission rule.

Who may enter is decided in `tidehub.login.admission`; this class carries claims there and words back. Overrides
exist only where upstream fails a person:

- a refused, replayed or foreign code answers 500 upstream; here 403 with a sentence;
- upstream never asks again whether a member is still one; here every refresh does;
- upstream ends sessions when the provider is briefly down; here they go on.
"""

from __future__ import annotations

from contextvars import ContextVar
from html import escape
from typing import Any, ClassVar

from oauthenticator.generic import GenericOAuthenticator
from tornado import web
from tornado.httpclient import HTTPClientError

from tidehub.login.admission import Decision, decide
from tidehub.site.model import Site

_outage: ContextVar[bool] = ContextVar("identity provider out of reach", default=False)


class ProviderUnavailable(web.HTTPError):
    """The identity provider does not answer or answers with a fault of its own."""

    def __init__(self, detail: str) -> None:
        super().__init__(503, "the identity provider does not answer: %s", detail)
        self.jupyterhub_message = (
            "The identity provider does not answer at the moment. Please try again in a minute."
        )


class Refused(web.HTTPError):
    """The person is known but not admitted. The page says why and where to ask."""

    def __init__(self, decision: Decision, site: Site, sign_out_url: str | None) -> None:
        super().__init__(403, "%s is not admitted: %s", decision.username, decision.reason)
        self.jupyterhub_html_message = refusal_page(decision, site, sign_out_url)


def refusal_page(decision: Decision, site: Site, sign_out_url: str | None) -> str:
    """What a refused person reads: who they are signed in as, what is missing, where to ask. Escaped HTML."""
    lines = [
        f"You are signed in as <strong>{escape(decision.username)}</strong>.",
        f"{escape(site.site.name)} does not admit this account.",
        escape(decision.reason),
    ]
    if site.login.enrolment_url:
        url = escape(site.login.enrolment_url, quote=True)
        lines.append(f'You can ask for membership here: <a href="{url}">{url}</a>')
    if site.site.contact:
        lines.append(f"Questions: {escape(site.site.contact)}")
    if sign_out_url:
        url = escape(sign_out_url, quote=True)
        lines.append(f'<a class="btn btn-jupyter" href="{url}">Sign in with another account</a>')
    return "</p><p>".join(lines)


class SiteAuthenticator(GenericOAuthenticator):  # type: ignore[misc]
    """OpenID Connect login whose admission rule is the site's."""

    site: ClassVar[Site]
    end_session_url: ClassVar[str | None] = None

    # --- admission --------------------------------------------------------------------------

    def decide(self, auth_model: dict[str, Any]) -> Decision:
        """The site's decision on the claims of a login."""
        claims = (auth_model.get("auth_state") or {}).get("oauth_user") or {}
        return decide(claims, self.site.login)

    async def update_auth_model(self, auth_model: dict[str, Any]) -> dict[str, Any]:
        auth_model["admin"] = self.decide(auth_model).admin
        return auth_model

    async def get_user_groups(self, auth_state: dict[str, Any]) -> set[str]:
        groups = decide(auth_state.get("oauth_user") or {}, self.site.login).groups
        # The hub's database holds 255 characters; a longer name could only be cut into somebody else's.
        return {group for group in groups if len(group) <= 255}

    async def check_allowed(self, username: str, auth_model: dict[str, Any] | None) -> bool:
        if auth_model is None:
            return False
        decision = self.decide(auth_model)
        if not decision.admitted:
            self.log.warning("refused %s: %s", username, decision.reason)
            raise Refused(decision, self.site, self.end_session_url)
        self.log.info("admitted %s by %s", username, decision.rule)
        return True

    async def refresh_user(self, user: Any, handler: Any = None, **kwargs: Any) -> Any:
        token = _outage.set(False)
        try:
            refreshed = await super().refresh_user(user, handler, **kwargs)
            # Upstream takes every failure of the token endpoint for a lost membership, an outage too.
            if refreshed is False and _outage.get():
                return True
        except ProviderUnavailable as error:
            self.log.warning("keeping the session of %s: %s", user.name, error)
            return True
        finally:
            _outage.reset(token)
        if isinstance(refreshed, dict):
            decision = self.decide(refreshed)
            if not decision.admitted:
                self.log.warning("%s is no longer admitted: %s", user.name, decision.reason)
                return False
        return refreshed

    # --- talking to the provider ------------------------------------------------------------

    def user_info_to_username(self, user_info: dict[str, Any]) -> str:
        name = user_info.get(str(self.username_claim))
        if not isinstance(name, str) or not name.strip():
            raise web.HTTPError(
                403,
                "the identity provider sent no %s; the scopes of this site's client may be too few",
                self.username_claim,
            )
        return name

    async def get_token_info(self, handler: Any, params: dict[str, Any]) -> Any:
        try:
            return await super().get_token_info(handler, params)
        except HTTPClientError as error:
            raise web.HTTPError(
                403,
                "The sign-in could not be completed, because the identity provider did not accept it (code %s). "
                "It may have taken too long or been used already. Please sign in again.",
                error.code,
            ) from None

    async def httpfetch(self, url: str, label: str = "fetching", **kwargs: Any) -> Any:
        try:
            return await super().httpfetch(url, label, **kwargs)
        except HTTPClientError as error:
            if error.code >= 500:  # 599 is tornado's own number for a time-out
                _outage.set(True)
                raise ProviderUnavailable(f"code {error.code}") from None
            raise
        except (TimeoutError, OSError) as error:
            _outage.set(True)
            raise ProviderUnavailable(type(error).__name__) from None
