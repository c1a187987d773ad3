"""The platform's own secrets: made on this machine once, kept in `private/secrets.json`, never shown.

What each is for, and its form, stands with all others in `tidehub.secrets.declared`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tidehub.errors import TidehubError
from tidehub.local.places import command
from tidehub.secrets.declared import Kept, kept_by
from tidehub.secrets.private_file import alone
from tidehub.secrets.secret import REDACTED, Secret
from tidehub.system.files import read_private, write_private

__all__ = [
    "REDACTED",
    "PlatformSecrets",
    "Secret",
    "change_secrets",
    "load_secrets",
    "made_at",
    "stored_values",
]

MADE = "made"
"""The entry of the file that says when each value was made."""
DECLARED = {declared.name: declared for declared in kept_by(Kept.STATE)}


@dataclass(frozen=True)
class PlatformSecrets:
    """Every secret that the parts share, by its name in `tidehub.secrets.declared`."""

    proxy_auth_token: Secret
    hub_cookie_secret: Secret
    hub_crypt_key: Secret
    gateway_token: Secret
    gateway_proxy_token: Secret
    gateway_database_key: Secret
    culler_token: Secret
    reaper_token: Secret
    operator_token: Secret
    gate_secret: Secret
    demo_client_secret: Secret
    older: Mapping[str, tuple[Secret, ...]] = field(default_factory=dict)
    """Replaced keys that still decrypt what was encrypted with them."""

    def __iter__(self) -> Iterator[Secret]:
        for name in DECLARED:
            yield from self.ring(name)

    def ring(self, name: str) -> list[Secret]:
        """All values of one secret, the newest first: it encrypts, all decrypt."""
        return [getattr(self, name), *self.older.get(name, ())]


def load_secrets(path: Path) -> PlatformSecrets:
    """The secrets in `path`; makes the file, or what a newer version needs. Raises `TidehubError`."""
    text = read_private(path)
    if text is None or DECLARED.keys() - (kept := _parse(text, path)).keys():
        kept = change_secrets(path, lambda kept: {})
    else:
        path.chmod(0o600)
    return _platform_secrets(kept)


def change_secrets(
    path: Path, change: Callable[[Mapping[str, list[Secret]]], Mapping[str, list[Secret]]]
) -> dict[str, list[str]]:
    """Replace the values that `change` gives for those that are kept, and make what is missing.

    One process at a time; written in one step. Raises `TidehubError`.
    """
    with alone(path.parent):
        text = read_private(path)
        content: dict[str, object] = _content(text, path) if text is not None else {}
        kept = _values(content, path)
        new = {
            name: [value.reveal() for value in values]
            for name, values in change({name: list(map(Secret, kept[name])) for name in kept}).items()
        }
        new |= {name: [_make(name)] for name in DECLARED if name not in kept and name not in new}
        if new:
            times = content.get(MADE)
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            content |= {name: values[0] if len(values) == 1 else values for name, values in new.items()}
            content[MADE] = {**(times if isinstance(times, dict) else {}), **dict.fromkeys(new, now)}
            write_private(path, json.dumps(content, indent=2) + "\n")
        return kept | new


def made_at(path: Path) -> dict[str, datetime]:
    """When each value was made, as far as it is known. Raises `TidehubError`."""
    text = read_private(path)
    times = _content(text, path).get(MADE) if text is not None else None
    made = {}
    for name, moment in (times if isinstance(times, dict) else {}).items():
        try:
            made[str(name)] = datetime.fromisoformat(str(moment))
        except ValueError:
            continue
    return made


def stored_values(path: Path) -> list[Secret]:
    """Every value in the file, whatever state it is in: for what must hide them, and must not fail."""
    try:
        content = json.loads(read_private(path) or "{}")
    except (TidehubError, ValueError):
        return []
    values = []
    for name, value in content.items() if isinstance(content, dict) else ():
        if name != MADE:
            values += [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]
    return [Secret(value) for value in values if value]


def _platform_secrets(kept: Mapping[str, list[str]]) -> PlatformSecrets:
    newest = {name: Secret(kept[name][0]) for name in DECLARED}
    older = {name: tuple(map(Secret, kept[name][1:])) for name in DECLARED if len(kept[name]) > 1}
    return PlatformSecrets(**newest, older=older)


def _make(name: str) -> str:
    make = DECLARED[name].shape.make
    assert make is not None, "a state holds only what is made here"
    return make()


def _parse(text: str, path: Path) -> dict[str, list[str]]:
    return _values(_content(text, path), path)


def _content(text: str, path: Path) -> dict[str, object]:
    try:
        content = json.loads(text)
    except ValueError:
        raise _damaged(path, "not JSON") from None
    if not isinstance(content, dict):
        raise _damaged(path, "not a JSON object")
    return content


def _values(content: Mapping[str, object], path: Path) -> dict[str, list[str]]:
    """The values by name, the newest first; only what is declared. Raises `TidehubError`."""
    kept: dict[str, list[str]] = {}
    for name, declared in DECLARED.items():
        if name not in content:
            continue
        stated = content[name]
        several = isinstance(stated, list) and declared.rotation.keeps_old and len(stated) > 0
        values = list(stated) if isinstance(stated, list) and several else [stated]
        if not all(declared.shape.fits(value) for value in values):
            raise _damaged(path, f"{name} has the wrong form")
        kept[name] = [str(value) for value in values]
    return kept


def _damaged(path: Path, why: str) -> TidehubError:
    return TidehubError(
        f"{path} is damaged: {why}",
        expected="the secrets that tidehub made on this machine",
        fix=f"restore it from a backup. Without one: run `{command(path.parent.parent, 'down')}`, move it away "
        "and start again; "
        "then users have to log in again, running clusters are lost, files and accounts stay",
    )
