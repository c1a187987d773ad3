"""The platform's own secrets: made on this machine once, kept in `private/secrets.json`, never shown."""

from __future__ import annotations

import base64
import hmac
import json
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from tidehub.errors import TidehubError
from tidehub.local.files import read_private, write_private

REDACTED = "[secret]"


class Secret:
    """A text that does not print. `reveal()` gives it, for a child's environment or a 0600 file."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return REDACTED

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(REDACTED, spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled")


@dataclass(frozen=True)
class _Kind:
    make: Callable[[], str]
    shape: re.Pattern[str]


_HEX_32_BYTES = _Kind(lambda: secrets.token_hex(32), re.compile(r"[0-9a-f]{64}"))
# Fernet's key format: 32 bytes in URL-safe base64 (cryptography.fernet); db_encrypt_keys takes it.
_FERNET = _Kind(
    lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(), re.compile(r"[A-Za-z0-9_-]{43}=")
)


@dataclass(frozen=True)
class PlatformSecrets:
    """Every secret that the parts share. All are 64 hexadecimal digits but `gateway_database_key`."""

    proxy_auth_token: Secret
    """Between hub and configurable-http-proxy's API."""
    hub_cookie_secret: Secret
    hub_crypt_key: Secret
    """Encrypts what the identity provider said about a person, in the hub's database."""
    gateway_token: Secret
    """dask-gateway as a service of the hub."""
    gateway_proxy_token: Secret
    """Between dask-gateway and its proxy."""
    gateway_database_key: Secret
    """A Fernet key: encrypts clusters' TLS keys and tokens in the gateway's database."""
    culler_token: Secret
    reaper_token: Secret
    operator_token: Secret
    """`tidehub status`, `check` and the supervisor's own calls of the hub."""
    gate_secret: Secret
    """The gate before Dask dashboards: signs its sessions, and is its token as a service of the hub."""
    demo_client_secret: Secret
    """The hub as a client of the embedded identity provider."""

    def __iter__(self) -> Iterator[Secret]:
        return (getattr(self, field.name) for field in fields(self))


def _kind(name: str) -> _Kind:
    return _FERNET if name == "gateway_database_key" else _HEX_32_BYTES


def load_secrets(path: Path) -> PlatformSecrets:
    """The secrets in `path`; makes the file, or what a newer version needs. Raises `TidehubError`."""
    text = read_private(path)
    kept = _parse(text, path) if text is not None else {}
    names = [field.name for field in fields(PlatformSecrets)]
    for name in names:
        value = kept.get(name)
        if value is not None and not (isinstance(value, str) and _kind(name).shape.fullmatch(value)):
            raise _damaged(path, f"{name} has the wrong form")
    made = {name: _kind(name).make() for name in names if name not in kept}
    if made:
        kept |= made
        write_private(path, json.dumps(kept, indent=2) + "\n")
    else:
        path.chmod(0o600)
    return PlatformSecrets(**{name: Secret(str(kept[name])) for name in names})


def _parse(text: str, path: Path) -> dict[str, object]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise _damaged(path, "not JSON") from error
    if not isinstance(content, dict):
        raise _damaged(path, "not a JSON object")
    return content


def _damaged(path: Path, why: str) -> TidehubError:
    return TidehubError(
        f"{path} is damaged: {why}",
        expected="the secrets that tidehub made on this machine",
        fix="restore it from a backup. Without one: run `tidehub down`, move it away and start again; "
        "then people log in anew, running clusters are lost, files and accounts stay",
    )
