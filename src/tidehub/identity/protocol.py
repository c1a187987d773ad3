"""The OAuth 2.0 and OpenID Connect of oauthlib, narrowed to what the hub uses: codes with PKCE, refresh, userinfo."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode

from oauthlib.oauth2.rfc6749.endpoints import AuthorizationEndpoint, TokenEndpoint
from oauthlib.oauth2.rfc6749.errors import (
    CustomOAuth2Error,
    InvalidRequestError,
    UnsupportedResponseTypeError,
)
from oauthlib.oauth2.rfc6749.tokens import BearerToken
from oauthlib.openid.connect.core.endpoints import UserInfoEndpoint
from oauthlib.openid.connect.core.grant_types import AuthorizationCodeGrant, RefreshTokenGrant

from tidehub.identity.grants import Grants

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_MOST_PARAMETERS = 50
_LONGEST_NONCE = 1024

Parameters = Sequence[tuple[str, str]]


def parse_parameters(text: str | bytes) -> list[tuple[str, str]]:
    """Form or query parameters; empty values count as left out (RFC 6749, 3.1). Raises `ValueError`."""
    raw = text.decode("ascii") if isinstance(text, bytes) else text
    pairs = parse_qsl(raw, keep_blank_values=True, errors="strict", max_num_fields=_MOST_PARAMETERS)
    return [(name, value) for name, value in pairs if value]


def unique(parameters: Parameters) -> dict[str, str]:
    """Parameters by name. Raises `ValueError` when one comes twice."""
    twice = [name for name, count in Counter(name for name, _ in parameters).items() if count > 1]
    if twice:
        raise ValueError(f"the parameter {twice[0]} comes more than once")
    return dict(parameters)


def with_parameters(uri: str, parameters: Parameters) -> str:
    """`uri` with further query parameters."""
    return f"{uri}{'&' if '?' in uri else '?'}{urlencode(list(parameters))}" if parameters else uri


class Server(AuthorizationEndpoint, TokenEndpoint, UserInfoEndpoint):  # type: ignore[misc]
    """Three endpoints. oauthlib's own `Server` would also offer passwords, implicit grants and plain PKCE."""

    def __init__(self, grants: Grants, *, access_lifetime: int) -> None:
        bearer = BearerToken(grants, expires_in=access_lifetime)
        code = AuthorizationCodeGrant(grants, pre_auth=[narrow], pre_token=[_complete])
        code.register_token_modifier(_refresh_only_offline)
        AuthorizationEndpoint.__init__(self, "code", bearer, {"code": code})
        types = {"authorization_code": code, "refresh_token": RefreshTokenGrant(grants)}
        TokenEndpoint.__init__(self, "authorization_code", bearer, types)
        UserInfoEndpoint.__init__(self, grants)


def narrow(request: Any) -> dict[str, Any]:
    """Refuse what oauthlib (4.0) lets pass in an authorization request: other parameters given twice, PKCE
    without S256, answers in a fragment; and what is not supported here but must not be overlooked.
    """
    mode, request.response_mode = request.response_mode, "query"
    for name in ("request", "request_uri", "registration"):
        if getattr(request, name, None):
            raise CustomOAuth2Error(f"{name}_not_supported", request=request)
    if request.response_type not in (None, "code"):
        raise UnsupportedResponseTypeError(request=request)
    faults = {
        "A parameter comes more than once.": request.duplicate_params,
        "Only response_mode=query is supported.": mode not in (None, "query"),
        "PKCE is required, with code_challenge_method=S256.": request.code_challenge_method != "S256",
        "code_challenge must be 43 characters of base64url.": not _CHALLENGE.fullmatch(
            request.code_challenge or ""
        ),
        f"nonce may have {_LONGEST_NONCE} characters at most.": len(request.nonce or "") > _LONGEST_NONCE,
        "prompt, max_age, id_token_hint and claims are not supported.": (
            request.prompt or request.max_age or request.id_token_hint or request.claims
        ),
    }
    for description, fault in faults.items():
        if fault:
            raise InvalidRequestError(description=description, request=request)
    return {}


def _complete(request: Any) -> None:
    """Refuse a token request in which something is missing, before that costs the hub its code."""
    for name in ("redirect_uri", "code_verifier"):
        if getattr(request, name) is None:
            raise InvalidRequestError(description=f"{name} is missing.", request=request)


def _refresh_only_offline(token: dict[str, Any], handler: Any, request: Any) -> dict[str, Any]:
    if "offline_access" not in request.scopes:
        del token["refresh_token"]
    return token
