"""Values written where a site keeps its secrets: in the plain file, or in an encrypted one by its own program."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tidehub.errors import Place, UsageError
from tidehub.secrets import private_file
from tidehub.secrets.editing import edited
from tidehub.secrets.encrypted import Encrypted, decrypt, run, starts_armored
from tidehub.secrets.git import ensure_ignored, refuse_tracked
from tidehub.secrets.redaction import known
from tidehub.secrets.secret import Secret
from tidehub.secrets.store import MADE

RECIPIENTS = "TIDEHUB_AGE_RECIPIENTS"
Values = Mapping[str, Sequence[Secret]]


def write_plain(
    path: Path,
    values: Values,
    *,
    title: str,
    overrides: Mapping[str, Any] | None = None,
    dated: Collection[str] = (),
) -> Path | None:
    """Write values into the secrets file, ignored by git before it exists; returns a `.gitignore` that was changed.

    `title` names the site file, `dated` the values that were made now. Raises `TidehubError`.
    """
    if not values and not overrides:
        return None
    _hide(values)
    refuse_tracked(path)
    gitignore = ensure_ignored(path)
    content = private_file.read(path, "the secrets file")
    text = edited(
        content.data.decode("utf-8-sig") if content else None,
        values,
        title=title,
        now=datetime.now(UTC),
        overrides=overrides,
        dated=dated,
    )
    private_file.replace(
        path, text, uid=content.uid if content else None, gid=content.gid if content else None
    )
    return gitignore


def write_encrypted(
    one: Encrypted,
    values: Values,
    *,
    title: str,
    dated: Collection[str] = (),
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Write values into an encrypted file: decrypted and encrypted through pipes. Raises `TidehubError`."""
    _hide(values)
    if one.kind == "age":
        _write_age(one, values, title, dated, environ)
    else:
        _write_sops(one, values, dated, environ)


def _write_age(
    one: Encrypted, values: Values, title: str, dated: Collection[str], environ: Mapping[str, str]
) -> None:
    recipients = _recipients(one, environ)
    text = edited(
        decrypt(one, environ).decode("utf-8-sig"), values, title=title, now=datetime.now(UTC), dated=dated
    )
    armor = ["--armor"] if starts_armored(one.path) else []
    argv = ["age", "--encrypt", *armor, "--recipients-file", str(recipients)]
    output = run(one, argv, text.encode(), environ, doing="encrypt")
    private_file.replace(one.path, output, mode=stat.S_IMODE(one.path.stat().st_mode))


def _recipients(one: Encrypted, environ: Mapping[str, str]) -> Path:
    """The public keys to encrypt for. An age file does not tell for whom it is encrypted."""
    chosen = environ.get(RECIPIENTS, "").strip()
    beside = one.path.with_name(one.path.name.removesuffix(".yaml.age") + ".recipients")
    path = Path(chosen) if chosen else beside
    if not path.is_file():
        raise UsageError(
            "the recipients of the age file are not known, so it cannot be encrypted again",
            where=Place(str(one.path)),
            expected=f"public keys, one a line, in {path}",
            fix=f"write everybody's, yours with: age-keygen -y IDENTITY >> {path}",
        )
    return path


def _write_sops(one: Encrypted, values: Values, dated: Collection[str], environ: Mapping[str, str]) -> None:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for name, secrets in values.items():
        # `sops set` takes no lists from its standard input; the ; is what the reader splits a ring of keys at.
        _set(one, [name], ";".join(secret.reveal() for secret in secrets), environ)
    for name in dated:
        _set(one, [MADE, name], now, environ)


def _set(one: Encrypted, path: list[str], value: str, environ: Mapping[str, str]) -> None:
    index = "".join(f"[{json.dumps(part)}]" for part in path)
    argv = [
        "sops",
        "set",
        "--input-type",
        "yaml",
        "--output-type",
        "yaml",
        "--value-stdin",
        str(one.path),
        index,
    ]
    run(one, argv, json.dumps(value).encode(), environ, doing="change")


def _hide(values: Values) -> None:
    for secrets in values.values():
        known.add(secrets)
