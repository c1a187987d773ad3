"""Requests as OAuth 2.0 and OpenID Connect define them: parsed and judged without network or state."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote_plus, urlencode

from tidehub.identity.config import ClientConfig

PROMPTS = ("none", "login", "select_account")
"""What `prompt` may hold. Consent is not asked for: the operator registers every client."""

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_MOST_PARAMETERS = 50
_LONGEST_NONCE = 1024

Parameters = Sequence[tuple[str, str]]


class OAuthError(Exception):
    """A refusal for a program: `error` is a registered code, `description` is for its developer."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status


class RefusedHere(Exception):
    """An authorization request that must be refused on a page: nobody trustworthy to send the browser to."""


class RefusedBack(Exception):
    """An authorization request that is refused by sending the browser back to the client."""

    def __init__(self, redirect_uri: str, state: str | None, error: str, description: str) -> None:
        super().__init__(description)
        self.redirect_uri = redirect_uri
        self.state = state
        self.error = error
        self.description = description


@dataclass(frozen=True)
class Client:
    """A registered client; the digest stands for its secret."""

    config: ClientConfig
    secret_digest: bytes

    @classmethod
    def load(cls, config: ClientConfig) -> Client:
        """Read the secret. Raises `UsageError` when its file cannot be used."""
        return cls(config, _digest(config.secret()))


Clients = Mapping[str, Client]


@dataclass(frozen=True)
class AuthorizationRequest:
    """An acceptable authorization request. `max_age` in seconds."""

    client_id: str
    redirect_uri: str
    state: str | None
    scopes: tuple[str, ...]
    nonce: str | None
    challenge: str
    prompt: frozenset[str]
    max_age: int | None
    login_hint: str
    id_token_hint: str | None


def parse_parameters(text: str | bytes) -> list[tuple[str, str]]:
    """Form or query parameters; empty values count as left out (RFC 6749, 3.1). Raises `ValueError`."""
    raw = text.decode("ascii") if isinstance(text, bytes) else text
    pairs = parse_qsl(raw, keep_blank_values=True, errors="strict", max_num_fields=_MOST_PARAMETERS)
    return [(name, value) for name, value in pairs if value]


def unique(parameters: Parameters) -> dict[str, str]:
    """Parameters by name. Raises `OAuthError` when one comes twice."""
    twice = [name for name, count in Counter(name for name, _ in parameters).items() if count > 1]
    if twice:
        raise OAuthError("invalid_request", f"The parameter {twice[0]} comes more than once.")
    return dict(parameters)


def parse_authorization(parameters: Parameters, clients: Clients) -> AuthorizationRequest:
    """Judge an authorization request. Raises `RefusedHere` or `RefusedBack`."""
    client, redirect_uri = _trusted_return(parameters, clients)
    states = [value for name, value in parameters if name == "state"]
    state = states[0] if len(states) == 1 else None
    try:
        return _judge(unique(parameters), client, redirect_uri)
    except OAuthError as error:
        raise RefusedBack(redirect_uri, state, error.error, error.description) from None


def _trusted_return(parameters: Parameters, clients: Clients) -> tuple[Client, str]:
    ids = [value for name, value in parameters if name == "client_id"]
    uris = [value for name, value in parameters if name == "redirect_uri"]
    client = clients.get(ids[0]) if len(ids) == 1 else None
    if client is None:
        raise RefusedHere(
            "The application that sent you here is not registered (client_id). Its operator can change that."
        )
    if len(uris) != 1 or uris[0] not in client.config.redirect_uris:
        raise RefusedHere(
            "The address to return to is not registered for this application (redirect_uri). "
            "Its operator can change that: both must be the same, character by character."
        )
    return client, uris[0]


def _judge(given: dict[str, str], client: Client, redirect_uri: str) -> AuthorizationRequest:
    for name in ("request", "request_uri", "registration"):
        if name in given:
            raise OAuthError(f"{name}_not_supported", f"The parameter {name} is not supported.")
    if "response_type" not in given:
        raise OAuthError("invalid_request", "response_type is missing.")
    if given["response_type"] != "code":
        raise OAuthError("unsupported_response_type", "Only response_type=code is supported.")
    if given.get("response_mode", "query") != "query":
        raise OAuthError("invalid_request", "Only response_mode=query is supported.")
    if "code_challenge" not in given:
        raise OAuthError("invalid_request", "code_challenge is missing: PKCE is required.")
    if given.get("code_challenge_method") != "S256":
        raise OAuthError("invalid_request", "code_challenge_method must be S256.")
    if not _CHALLENGE.fullmatch(given["code_challenge"]):
        raise OAuthError("invalid_request", "code_challenge must be 43 characters of base64url.")
    if len(given.get("nonce", "")) > _LONGEST_NONCE:
        raise OAuthError("invalid_request", f"nonce may have {_LONGEST_NONCE} characters at most.")
    return AuthorizationRequest(
        client_id=client.config.client_id,
        redirect_uri=redirect_uri,
        state=given.get("state"),
        scopes=_scopes(given.get("scope", ""), client),
        nonce=given.get("nonce"),
        challenge=given["code_challenge"],
        prompt=_prompt(given.get("prompt", "")),
        max_age=_max_age(given.get("max_age")),
        login_hint=given.get("login_hint", "")[:100],
        id_token_hint=given.get("id_token_hint"),
    )


def _scopes(text: str, client: Client) -> tuple[str, ...]:
    scopes = tuple(dict.fromkeys(text.split()))
    if "openid" not in scopes:
        raise OAuthError("invalid_scope", "scope must contain openid.")
    foreign = [scope for scope in scopes if scope not in client.config.scopes]
    if foreign:
        raise OAuthError(
            "invalid_scope", "Scopes not registered for this client: " + printable(" ".join(foreign))
        )
    return scopes


def _prompt(text: str) -> frozenset[str]:
    prompt = frozenset(text.split())
    if not prompt <= set(PROMPTS):
        raise OAuthError("invalid_request", f"prompt may hold {', '.join(PROMPTS)}.")
    if "none" in prompt and len(prompt) > 1:
        raise OAuthError("invalid_request", "prompt=none cannot be combined.")
    return prompt


def _max_age(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise OAuthError("invalid_request", "max_age must be a whole number of seconds.")
    return int(text)


def authenticate(authorization: str | None, form: dict[str, str], clients: Clients) -> Client:
    """The client behind a request to the token or revocation endpoint. Raises `OAuthError`.

    client_secret_basic or client_secret_post, never both (RFC 6749, 2.3.1).
    """
    if authorization is None:
        candidates = [(form.get("client_id", ""), form.get("client_secret", ""))]
    else:
        if "client_secret" in form:
            raise OAuthError("invalid_request", "Use either the Authorization header or client_secret.")
        candidates = _basic(authorization)
        if "client_id" in form and all(form["client_id"] != client_id for client_id, _ in candidates):
            raise OAuthError("invalid_request", "client_id differs from the Authorization header.")
    for client_id, secret in candidates:
        client = clients.get(client_id)
        expected = client.secret_digest if client is not None else _digest("")
        right = hmac.compare_digest(_digest(secret), expected)
        if client is not None and right:
            return client
    raise OAuthError("invalid_client", "The client is unknown, or its secret is wrong.", 401)


def _basic(authorization: str) -> list[tuple[str, str]]:
    scheme, _, encoded = authorization.partition(" ")
    try:
        if scheme.lower() != "basic":
            raise ValueError("another scheme")
        client_id, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        if not colon:
            raise ValueError("no colon")
        decoded = (unquote_plus(client_id, errors="strict"), unquote_plus(secret, errors="strict"))
    except (ValueError, binascii.Error):
        raise OAuthError("invalid_client", "The Authorization header is not HTTP Basic.", 401) from None
    # The RFC wants both form-encoded; oauthenticator and many others send them as they are.
    return [decoded] if decoded == (client_id, secret) else [decoded, (client_id, secret)]


def with_parameters(uri: str, parameters: Mapping[str, str | None]) -> str:
    """`uri` with further query parameters; those that are None are left out."""
    query = urlencode({name: value for name, value in parameters.items() if value is not None})
    if not query:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}{query}"


def printable(text: str) -> str:
    """`text` in the characters an error_description may hold (RFC 6749, 4.1.2.1), shortened."""
    return "".join(c if 32 <= ord(c) < 127 and c not in '"\\' else "?" for c in text)[:200]


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
