"""What the provider is told: `IdentityConfig`, one JSON file of mode 0600."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from tidehub.errors import Place, UsageError
from tidehub.identity.private_files import read_private
from tidehub.loopback import is_loopback

SCOPES = (
    "openid",
    "profile",
    "email",
    "entitlements",
    "eduperson_entitlement",
    "eduperson_scoped_affiliation",
    "eduperson_assurance",
    "voperson_id",
    "offline_access",
)
"""Every scope the provider knows, named as at EGI Check-In."""

SHORTEST_SECRET = 16
DAY = 86400

Seconds = Annotated[int, Field(gt=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Listen(_Strict):
    """The socket. The proxy in front of it connects here."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)]


class Lifetimes(_Strict):
    """How long things last, in seconds."""

    code: Seconds = 60
    access: Seconds = 3600
    refresh: Seconds = 30 * DAY
    id_token: Seconds = 3600
    session: Seconds = 12 * 3600


class ClientConfig(_Strict):
    """One registered relying party, such as a hub. Addresses are compared character by character."""

    client_id: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,200}$")]
    client_secret: SecretStr | None = None
    client_secret_file: Path | None = None
    redirect_uris: tuple[str, ...] = Field(min_length=1)
    post_logout_redirect_uris: tuple[str, ...] = ()
    scopes: tuple[str, ...] = SCOPES

    @field_validator("redirect_uris", "post_logout_redirect_uris")
    @classmethod
    def _addresses(cls, uris: tuple[str, ...]) -> tuple[str, ...]:
        for uri in uris:
            _check_address(uri)
        return uris

    @field_validator("scopes")
    @classmethod
    def _scopes(cls, scopes: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(scopes) - set(SCOPES))
        if unknown:
            raise ValueError(f"unknown scopes: {', '.join(unknown)}; known: {', '.join(SCOPES)}")
        if "openid" not in scopes:
            raise ValueError("the scopes of a client must contain openid")
        return scopes

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        if (self.client_secret is None) == (self.client_secret_file is None):
            raise ValueError("exactly one of client_secret and client_secret_file is needed")
        if self.client_secret is not None and len(self.client_secret.get_secret_value()) < SHORTEST_SECRET:
            raise ValueError(f"client_secret must have at least {SHORTEST_SECRET} characters")
        return self

    def secret(self) -> str:
        """The client secret, read from its file if one is named. Raises `UsageError` for an unusable file."""
        if self.client_secret is not None:
            return self.client_secret.get_secret_value()
        assert self.client_secret_file is not None
        secret = read_private(self.client_secret_file, f"The client secret of {self.client_id}").strip()
        if len(secret) < SHORTEST_SECRET:
            raise UsageError(
                f"The client secret of {self.client_id} is too short.",
                where=Place(str(self.client_secret_file)),
                expected=f"at least {SHORTEST_SECRET} characters",
            )
        return secret


class IdentityConfig(_Strict):
    """The whole configuration.

    `issuer` is the public address including the path below which everything is served; `state_dir` a private
    directory (0700) that belongs to the provider's user. X-Forwarded-For is read only from loopback peers;
    `trusted_proxies` names further proxies (addresses or networks) whose entries in it are skipped.
    """

    issuer: str
    listen: Listen
    state_dir: Path
    site_name: Annotated[str, Field(min_length=1, max_length=100)]
    clients: tuple[ClientConfig, ...] = Field(min_length=1)
    allow_public: bool = False
    trusted_proxies: tuple[str, ...] = ()
    lifetimes: Lifetimes = Lifetimes()
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("issuer")
    @classmethod
    def _issuer(cls, issuer: str) -> str:
        _check_address(issuer)
        if issuer.endswith("/") or "?" in issuer:
            raise ValueError("issuer must not end with / and must not have a query")
        if set(urlsplit(issuer).path) & set("%;, \\\"'"):
            raise ValueError("the issuer's path must be plain: letters, digits, - . _ ~ and /")
        return issuer

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            ipaddress.ip_network(proxy, strict=False)
        return proxies

    @model_validator(mode="after")
    def _unique_clients(self) -> Self:
        names = [client.client_id for client in self.clients]
        if len(set(names)) != len(names):
            raise ValueError("two clients have the same client_id")
        return self

    @property
    def prefix(self) -> str:
        """The path below which everything is served, "" or "/services/identity": no closing slash."""
        return urlsplit(self.issuer).path

    @property
    def origin(self) -> str:
        """Scheme, host and port of the issuer, as browsers send it in `Origin`."""
        return origin_of(self.issuer)

    @property
    def secure(self) -> bool:
        """Whether people reach the provider by https."""
        return self.issuer.startswith("https://")

    def refuse_public_use(self) -> None:
        """Raise `UsageError` unless listening socket and issuer are on loopback, or `allow_public` is set.

        The provider is for trying out: it has demo accounts, no second factor and no recovery of passwords.
        """
        if self.allow_public:
            return
        fix = (
            "use the loopback address, or set allow_public when you accept trial accounts on a public address"
        )
        if not is_loopback(self.listen.host):
            raise UsageError(
                f"The identity provider is for trying out and would listen on {self.listen.host}.",
                expected="listen.host on loopback, such as 127.0.0.1",
                fix=fix,
            )
        host = urlsplit(self.issuer).hostname or ""
        if not is_loopback(host):
            raise UsageError(
                f"The identity provider is for trying out and would serve the public address {self.issuer}.",
                expected="an issuer on loopback, such as http://127.0.0.1:8000/services/identity",
                fix=fix,
            )


def load_config(path: Path) -> IdentityConfig:
    """Read and check the configuration. Raises `UsageError` with every fault, never with a secret."""
    text = read_private(path, "The identity provider's configuration")
    try:
        config = IdentityConfig.model_validate_json(text)
    except ValidationError as error:
        # `include_input` stays off: what stands in the file may be a secret.
        faults = [
            f"{'.'.join(str(part) for part in fault['loc']) or 'the file'}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        ]
        raise UsageError(
            "The identity provider's configuration cannot be used: " + "; ".join(faults),
            where=Place(str(path)),
            expected="the JSON shape of tidehub.identity.config.IdentityConfig",
        ) from None
    config.refuse_public_use()
    return config


def origin_of(url: str) -> str:
    """Scheme, host and port of `url`, with the scheme's default port left out."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    default = {"http": 80, "https": 443}.get(parts.scheme)
    return (
        f"{parts.scheme}://{host}"
        if parts.port in (None, default)
        else f"{parts.scheme}://{host}:{parts.port}"
    )


def _check_address(url: str) -> None:
    """Raise `ValueError` unless `url` is an absolute web address fit for a code (RFC 6749, 3.1.2)."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url} is not an absolute http or https address")
    if parts.port == 0:
        raise ValueError(f"{url} has no usable port")
    if "#" in url or parts.username is not None or any(ord(c) <= 32 or ord(c) > 126 for c in url):
        raise ValueError(f"{url} must be plain ASCII without a fragment or a user name")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError(f"{url} must use https: plain http is for loopback only")
