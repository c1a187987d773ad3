"""Endpoints that programs use: description, keys, tokens, claims, health."""

from __future__ import annotations

from oauthlib.oauth2 import OAuth2Error

from tidehub.identity.handlers.base import Endpoint, Interface, Page
from tidehub.identity.pages import STYLE, STYLE_TAG
from tidehub.identity.protocol import unique


class Discovery(Interface):
    """The provider's description."""

    def get(self) -> None:
        self.answer(self.provider.discovery())


class Jwks(Interface):
    """The public key. Not cached: a new one counts at once."""

    def get(self) -> None:
        self.answer(self.provider.key.jwks())


class Token(Interface):
    """The token endpoint (RFC 6749, 3.2)."""

    def post(self) -> None:
        try:
            form = unique(self.form_parameters())
        except ValueError:
            form = {}
        if "grant_type" not in form or "client_secret" in form:
            needed = (
                "A form in which nothing comes twice is needed, with grant_type and without client_secret."
            )
            self.answer({"error": "invalid_request", "error_description": needed}, status=400)
            return
        body, status = self.provider.tokens(form, self.request.headers.get("Authorization", ""))
        if status == 401:
            # oauthlib asks for Bearer here, too.
            self.set_header("WWW-Authenticate", 'Basic realm="token", charset="UTF-8"')
        self.answer(body, status=status)


class UserInfo(Interface):
    """The claims of the user behind an access token (OpenID Connect Core, 5.3)."""

    def get(self) -> None:
        try:
            self.answer(self.provider.userinfo(self.request.headers.get("Authorization", "")))
        except OAuth2Error as error:
            self.add_headers(error.headers)
            self.answer(error.json, status=error.status_code)

    post = get


class Health(Interface):
    """Whether the provider can do its work, its database included."""

    def get(self) -> None:
        self.provider.database.connection.execute("SELECT count(*) FROM accounts").fetchone()
        self.answer({"status": "ok"})


class Style(Endpoint):
    """The pages' style sheet."""

    def get(self) -> None:
        self.set_header("Content-Type", "text/css; charset=UTF-8")
        self.set_header("Cache-Control", "public, max-age=3600")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cross-Origin-Resource-Policy", "same-origin")
        self.set_header("Etag", STYLE_TAG)
        if self.check_etag_header():
            self.set_status(304)
            return
        self.finish(STYLE)


class Missing(Page):
    """Every other address."""

    def prepare(self) -> None:
        self.send_error(404)
