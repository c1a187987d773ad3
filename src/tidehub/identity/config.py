"""What the provider is told: `IdentityConfig`, one JSON file of mode 0600."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

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


def _check_address(url: str) -> str:
    """`url` itself. Raises `ValueError` unless it is an absolute web address fit for a code (RFC 6749, 3.1.2)."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url} is not an absolute http or https address")
    if parts.port == 0:
        raise ValueError(f"{url} has no usable port")
    if "#" in url or parts.username is not None or any(ord(c) <= 32 or ord(c) > 126 for c in url):
        raise ValueError(f"{url} must be plain ASCII without a fragment or a user name")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError(f"{url} must use https: plain http is for loopback only")
    return url


def _check_secret(secret: SecretStr) -> SecretStr:
    value = secret.get_secret_value()
    if len(value) < SHORTEST_SECRET or not re.fullmatch(r"[A-Za-z0-9._-]+", value):
        raise ValueError(f"it must have at least {SHORTEST_SECRET} characters of A-Z a-z 0-9 . _ -")
    return secret


Seconds = Annotated[int, Field(gt=0)]
Address = Annotated[str, AfterValidator(_check_address)]


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
    """The relying party: the hub. Addresses are compared character by character.

    Identifier and secret hold only characters that a form leaves as they are: some clients encode both for the
    Authorization header, as RFC 6749 (2.3.1) wants, and others do not.
    """

    client_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,200}$")]
    client_secret: Annotated[SecretStr, AfterValidator(_check_secret)]
    redirect_uri: Address
    post_logout_redirect_uris: tuple[Address, ...] = ()


class IdentityConfig(_Strict):
    """The whole configuration.

    `issuer` is the public address including the path below which everything is served; `state_dir` a private
    directory (0700) that belongs to the provider's user. X-Forwarded-For is read only from the proxy in front
    (`addresses.front_proof`);
    `trusted_proxies` names further proxies (addresses or networks) whose entries in it are skipped.
    """

    issuer: Address
    listen: Listen
    state_dir: Path
    site_name: Annotated[str, Field(min_length=1, max_length=100)]
    contact: Annotated[str, Field(max_length=1000)] | None = None
    """Where users get help, shown on error pages."""
    client: ClientConfig
    allow_public: bool = False
    trusted_proxies: tuple[str, ...] = ()
    lifetimes: Lifetimes = Lifetimes()
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("issuer")
    @classmethod
    def _issuer(cls, issuer: str) -> str:
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
        """Whether users reach the provider by https."""
        return self.issuer.startswith("https://")

    def refuse_public_use(self) -> None:
        """Raise `UsageError` unless listening socket and issuer are on loopback, or `allow_public` is set.

        The provider is for trying out: it has demo accounts, no second factor and no recovery of passwords.
        """
        if self.allow_public:
            return
        fix = (
            "use the loopback address, or set allow_public when you accept demo accounts on a public address"
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
