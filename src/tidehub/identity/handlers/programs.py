"""Endpoints that programs use: description, keys, tokens, claims, revocation, health."""

from __future__ import annotations

from tidehub.identity.claims import userinfo
from tidehub.identity.grants import InvalidGrant, Tokens
from tidehub.identity.handlers.base import Endpoint, Interface, Page
from tidehub.identity.pages import STYLE, STYLE_TAG
from tidehub.identity.protocol import Client, OAuthError, authenticate


class Discovery(Interface):
    """The provider's description."""

    def get(self) -> None:
        self.answer(self.provider.discovery())


class Jwks(Interface):
    """The public keys. Not cached: a rotation counts at once."""

    def get(self) -> None:
        self.answer(self.provider.keys.jwks())


class Token(Interface):
    """The token endpoint (RFC 6749, 3.2)."""

    def post(self) -> None:
        try:
            form = self.unique_form()
            client = authenticate(self.request.headers.get("Authorization"), form, self.provider.clients)
            grant_type = _needed(form, "grant_type")
            if grant_type == "authorization_code":
                tokens = self._redeem(form, client)
                nonce = tokens.grant.nonce
            elif grant_type == "refresh_token":
                tokens, nonce = self._refresh(form, client), None
            else:
                raise OAuthError(
                    "unsupported_grant_type", "grant_type must be authorization_code or refresh_token."
                )
        except InvalidGrant as error:
            self.refuse(OAuthError("invalid_grant", str(error)))
        except OAuthError as error:
            self.refuse(error)
        else:
            self.answer(self.provider.token_response(tokens, nonce=nonce))

    def _redeem(self, form: dict[str, str], client: Client) -> Tokens:
        return self.provider.grants.redeem_code(
            _needed(form, "code"),
            client_id=client.config.client_id,
            redirect_uri=_needed(form, "redirect_uri"),
            verifier=_needed(form, "code_verifier"),
            now=self.provider.now(),
        )

    def _refresh(self, form: dict[str, str], client: Client) -> Tokens:
        scopes = tuple(dict.fromkeys(form["scope"].split())) if "scope" in form else None
        try:
            return self.provider.grants.refresh(
                _needed(form, "refresh_token"),
                client_id=client.config.client_id,
                scopes=scopes,
                now=self.provider.now(),
            )
        except ValueError as error:
            raise OAuthError("invalid_scope", str(error)) from None


class Revoke(Interface):
    """The revocation endpoint (RFC 7009)."""

    def post(self) -> None:
        try:
            form = self.unique_form()
            client = authenticate(self.request.headers.get("Authorization"), form, self.provider.clients)
            if not self.provider.grants.revoke_token(_needed(form, "token"), client.config.client_id):
                raise OAuthError("invalid_request", "This token belongs to another client.")
        except OAuthError as error:
            self.refuse(error)
        else:
            self.answer({})


class UserInfo(Interface):
    """The claims of the person behind an access token (OpenID Connect Core, 5.3)."""

    def get(self) -> None:
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            self._challenge("", "An access token is needed: Authorization: Bearer ...")
            return
        found = self.provider.grants.find_access(token.strip(), self.provider.now())
        account = self.provider.accounts.by_sub(found[0].sub) if found else None
        if found is None or account is None:
            self._challenge("invalid_token", "The access token is unknown, expired or revoked.")
        elif "openid" not in found[1]:
            self._challenge("insufficient_scope", "The access token lacks the scope openid.", status=403)
        else:
            self.answer(userinfo(account, found[1]))

    post = get

    def _challenge(self, error: str, description: str, *, status: int = 401) -> None:
        """Refuse as RFC 6750 section 3 says: no error code for a request without a token."""
        realm = 'Bearer realm="userinfo"'
        detail = f', error="{error}", error_description="{description}"' if error else ""
        self.set_header("WWW-Authenticate", realm + detail)
        self.answer({"error": error or "invalid_request", "error_description": description}, status=status)


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


def _needed(form: dict[str, str], name: str) -> str:
    if name not in form:
        raise OAuthError("invalid_request", f"{name} is missing.")
    return form[name]
