"""Secrets where they may not be: outside of Secrets, and in the values that are shown. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tidehub import program
from tidehub.kubernetes.rendering.flaw import Flaw, Item, Report
from tidehub.kubernetes.rendering.model import Rendered
from tidehub.secrets.placeholders import is_placeholder
from tidehub.secrets.redaction import SHORTEST_HIDDEN
from tidehub.secrets.secret import Secret

_LONG = 16
"""Characters from which on a Secret's value is looked for elsewhere: shorter ones are words."""
_WORDS = re.compile(r"\s|://|^[\[{]")
"""What a Secret holds beside secrets: texts, addresses, settings."""
_SECRETS = frozenset(
    {
        "apiToken", "auth_token", "client_secret", "clientSecret", "cookieSecret", "cookie_secret", "password",
        "secretToken",
    }
)  # fmt: skip
"""Last part of the path of values that are secrets in these charts."""
_NAMES = re.compile(
    r"(?i:(^|_|-)(password|passwd|secret|token|api_?key|private_?key)$)"
    r"|(Password|(?<!existing)(?<!Pull)Secret|Token|ApiKey|PrivateKey)$"
)
"""The same of values that are probably secrets: of variables, and of what charts hand on."""
_EVERYWHERE = f"hold it in the secrets file: `{program.command('secrets')}` says how"


def check(
    rendered: Rendered, items: Sequence[Item], reporter: Callable[[Item], Report], found: list[Flaw]
) -> None:
    """Values of secrets in objects that are no Secrets, and what looks like one in values that anybody may see."""
    texts = _known(rendered, items)
    for item in items:
        if item.id.kind == "Secret":
            continue
        for field, text in _texts(item.obj, ""):
            for name, needle in texts.items():
                if needle in text:
                    say = reporter(item)
                    say(f"everybody who may read a {item.id.kind} can read the secret {name} in it", field)
                    break
    for one in rendered.releases:
        for path, key in _suspects(one.release.values):
            found.append(
                Flaw(
                    "error" if key in _SECRETS else "warning",
                    "this value is a secret by its name, and the values of a release are not hidden",
                    one.release.name,
                    field=path,
                    fix=_EVERYWHERE,
                )
            )


def _known(rendered: Rendered, items: Sequence[Item]) -> dict[str, str]:
    """Texts that are secret, by a name that may be said; each plain and as Secrets write it."""
    plain: dict[str, str] = {}
    for one in rendered.releases:
        for path, secret in _secrets(one.release.secrets, one.release.name):
            plain.setdefault(path, secret.reveal())
    for item in items:
        if item.id.kind == "Secret":
            for key, value in _decoded(item):
                if len(value) >= _LONG and not _WORDS.search(value):
                    plain.setdefault(f"{item.id.name}/{key}", value)
    texts: dict[str, str] = {}
    for name, value in plain.items():
        if len(value) >= SHORTEST_HIDDEN * 2:
            texts[name] = value
            texts[f"{name} (base64)"] = base64.b64encode(value.encode()).decode().rstrip("=")
    return texts


def _decoded(item: Item) -> Iterator[tuple[str, str]]:
    for key, value in (item.obj.get("data") or {}).items():
        try:
            yield str(key), base64.b64decode(str(value), validate=True).decode()
        except (binascii.Error, ValueError):
            continue
    for key, value in (item.obj.get("stringData") or {}).items():
        yield str(key), str(value)


def _secrets(values: Any, path: str) -> Iterator[tuple[str, Secret]]:
    if isinstance(values, Secret):
        yield path, values
    elif isinstance(values, Mapping):
        for key, value in values.items():
            yield from _secrets(value, f"{path}.{key}")
    elif isinstance(values, list):
        for value in values:
            yield from _secrets(value, path)


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(inner, f"{path}[{index}]")


def _suspects(values: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(values, Mapping):
        for key, value in values.items():
            at = f"{path}.{key}" if path else str(key)
            named = _NAMES.search(str(key)) and isinstance(value, str)
            if named and value and not is_placeholder(value):
                yield at, str(key)
            else:
                yield from _suspects(value, at)
    elif isinstance(values, list):
        for index, value in enumerate(values):
            yield from _suspects(value, f"{path}[{index}]")
