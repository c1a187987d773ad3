"""Secrets kept out of a plan: those of this deployment, and those that the cluster has from earlier ones."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from tidehub.kubernetes.objects import Object, ObjectId
from tidehub.kubernetes.planning.diff import FieldChange
from tidehub.kubernetes.planning.paths import Entry, Path
from tidehub.kubernetes.planning.settings import read_settings
from tidehub.secrets.redaction import Redactor, known
from tidehub.secrets.secret import REDACTED, Secret

SHORTEST = 8
"""Characters of a value in a Secret that is hidden elsewhere, too: shorter ones are words such as `true` or `user`."""
_SECRET_NAME = re.compile(
    r"passw(or)?d|passphrase|(api|auth|access|refresh|bearer)_?token|^token$|_token$|[a-z]Token$|client_?secret"
    r"|cookie_?secret|secret_?key|private_?key|access_?key|crypt_?key|credentials?$|_secret$|_pwd$",
    re.I,
)
"""Names of settings and variables that hold a secret. `existingSecret`, `secretName`, `username_key` are none."""
_SETTING = re.compile(r"""([\w.-]+)\\*["']?\s*[:=]\s*\\*["']([^"'\s\\]{4,})\\*["']""")
"""A setting with a quoted value, in Python, YAML or JSON, the latter also inside a quoted text."""
_DATA = ("data", "stringData")


class Concealer:
    """Hides secrets in changes and sentences. Everything that leaves a plan has been through it."""

    def __init__(
        self, secrets: Iterable[Secret] = (), objects: Iterable[Object] = (), plain: Iterable[str] = ()
    ) -> None:
        """`plain` are names that stay readable, although some Secret may hold one of them as a user's name."""
        found = _found(objects) - set(plain)
        found |= {secret.reveal() for secret in secrets}
        self._own = Redactor(Secret(form) for text in found for form in _forms(text))

    def text(self, text: str) -> str:
        """A sentence without secrets."""
        return self._own.text(known.text(text))

    def value(self, value: Any) -> Any:
        """A value of an object without secrets, whatever is in it."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            name = value.get("name")
            if isinstance(name, str) and "value" in value and _SECRET_NAME.search(name):
                # A variable of a container.
                value = {**value, "value": REDACTED}
            return {self.text(str(key)): self._named(str(key), each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self.value(each) for each in value)
        if isinstance(value, Entry):
            return Entry(tuple(self.value(each) for each in value.key))
        return value

    def change(self, id: ObjectId, change: FieldChange) -> FieldChange:
        """A change without secrets: of a Secret's data only whether it changed, key by key."""
        path: Path = tuple(self.value(part) for part in change.path)
        if id.kind == "Secret" and change.path[:1] and change.path[0] in _DATA:
            return replace(change, path=path, old=_hidden(change.old), new=_hidden(change.new))
        if _names_secret(change.path):
            # A flag or a mapping whose name ends in `token` holds none itself.
            old, new = (
                REDACTED if isinstance(each, str) else self.value(each) for each in (change.old, change.new)
            )
            return replace(change, path=path, old=old, new=new)
        return replace(change, path=path, old=self.value(change.old), new=self.value(change.new))

    def _named(self, name: str, value: Any) -> Any:
        if isinstance(value, str) and value and _SECRET_NAME.search(name):
            return REDACTED
        return self.value(value)


def _names_secret(path: Path) -> bool:
    """Whether the path leads to a setting whose name says that it is a secret, or to such a variable's value."""
    for place, part in enumerate(path):
        if isinstance(part, Entry) and path[place - 1] == "env" and path[place + 1 : place + 2] == ("value",):
            return bool(_SECRET_NAME.search(str(part.key[0])))
    return bool(path) and isinstance(path[-1], str) and _SECRET_NAME.search(path[-1]) is not None


def _hidden(value: Any) -> Any:
    if value is None:
        return None
    return dict.fromkeys(value, REDACTED) if isinstance(value, Mapping) else REDACTED


def _forms(text: str) -> Iterator[str]:
    """A secret as it is written in objects: plain, in JSON, in an address, and as base64."""
    yield text
    yield json.dumps(text)[1:-1]
    yield quote(text, safe="")
    yield base64.b64encode(text.encode()).decode()


def _found(objects: Iterable[Object]) -> set[str]:
    """All secrets that objects tell. Most texts are there three times (rendered, recorded, live) and read once."""
    hidden: set[str] = set()
    shown: set[str] = set()
    for obj in objects:
        if obj.get("kind") == "Secret":
            hidden.update(_texts_of(obj))
        elif obj.get("kind") == "ConfigMap":
            shown.update(map(str, (obj.get("data") or {}).values()))
    found = {secret for text in hidden for secret in _of_secret(text)}
    return found | {secret for text in shown for secret in _of_config_map(text)}


def _texts_of(secret: Object) -> Iterator[str]:
    yield from map(str, (secret.get("stringData") or {}).values())
    for written in (secret.get("data") or {}).values():
        try:
            yield base64.b64decode(str(written), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError, ValueError):
            continue


def _of_secret(text: str) -> Iterator[str]:
    """A text of a Secret, and the secret values in it where it is a file of settings."""
    if "\n" in text.strip() or text.lstrip().startswith("{"):
        yield from _of_settings(text)
    if len(text.strip()) >= SHORTEST:
        yield text.strip()


def _of_config_map(text: str) -> Iterator[str]:
    """Secrets that a chart put where none belongs: dask-gateway's ConfigMap holds the password of its simple login."""
    for name, value in _SETTING.findall(text):
        if _SECRET_NAME.search(name):
            yield value


def _of_settings(text: str) -> Iterator[str]:
    """Secret values in a file of settings: YAML or JSON."""
    yield from _secret_leaves(read_settings(text), set(), secret=False)


def _secret_leaves(value: Any, seen: set[int], *, secret: bool) -> Iterator[str]:
    if isinstance(value, Mapping | list):
        # YAML may name one part many times over.
        if id(value) in seen:
            return
        seen.add(id(value))
    if isinstance(value, Mapping):
        for key, each in value.items():
            inside = key == "keys" or _SECRET_NAME.search(str(key)) is not None
            yield from _secret_leaves(each, seen, secret=inside and not isinstance(each, Mapping))
    elif isinstance(value, list):
        for each in value:
            yield from _secret_leaves(each, seen, secret=secret)
    elif secret and isinstance(value, str) and len(value) >= SHORTEST:
        yield value
