"""The operator's certificate and key: checked in words, and handed to the proxy's user when they change."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tidehub.errors import TidehubError, UsageError
from tidehub.system.files import PRIVATE_DIRECTORY, make_directory, write_private

HAND_OVER_INTERVAL = 5.0
"""Seconds between looks at the operator's files."""


@dataclass(frozen=True)
class TlsFiles:
    """A certificate chain and its key, PEM."""

    certificate: Path
    key: Path


class _Encrypted(Exception):
    pass


def check_tls(files: TlsFiles, *, now: datetime.datetime | None = None) -> list[str]:
    """Raise `UsageError` unless both can be read and belong together; returns warnings, one line each."""
    for path, key in ((files.certificate, "machine.tls.certificate"), (files.key, "machine.tls.key")):
        try:
            path.read_bytes()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise UsageError(
                f"{key} {path} cannot be read: {reason}", fix="give the path of a PEM file"
            ) from error

    def refuse_password() -> str:
        raise _Encrypted

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            files.certificate, files.key, password=refuse_password
        )
    except _Encrypted as error:
        raise UsageError(
            f"machine.tls.key {files.key} is encrypted",
            fix="give a key without a passphrase, in a file that only root (or you) can read",
        ) from error
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UsageError(
                f"{files.key} is not the key of {files.certificate}",
                fix="give the key with which this certificate was requested; "
                "in a chain the site's own certificate comes first",
            ) from error
        raise UsageError(
            f"{files.certificate} and {files.key} are not a certificate and its key: {error.reason or error}",
            expected="PEM files (-----BEGIN CERTIFICATE-----, -----BEGIN PRIVATE KEY-----)",
        ) from error
    return _warnings(files.certificate, now or datetime.datetime.now(datetime.UTC))


def _warnings(certificate: Path, now: datetime.datetime) -> list[str]:
    from cryptography import x509

    ends = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    if ends < now:
        return [f"the certificate {certificate} ended on {ends:%Y-%m-%d}: browsers will refuse the site"]
    if ends - now < datetime.timedelta(days=7):
        return [f"the certificate {certificate} ends on {ends:%Y-%m-%d}"]
    return []


class HandOver:
    """Copies of both files in a 0700 directory of the proxy's user.

    The key may be readable by root alone, and the proxy must not run as root: so the supervisor reads it and writes
    a 0600 copy that belongs to the proxy's user, again whenever the source changes.
    """

    def __init__(self, source: TlsFiles, directory: Path, *, uid: int | None, gid: int | None) -> None:
        self._source = source
        self._directory = directory
        self._uid = uid
        self._gid = gid
        self.files = TlsFiles(directory / "certificate.pem", directory / "key.pem")

    def copy(self) -> bool:
        """Copy what differs; true when something did. Raises `TidehubError`, `OSError`."""
        make_directory(self._directory, PRIVATE_DIRECTORY, uid=self._uid, gid=self._gid)
        changed = False
        # The key first: the proxy takes a pair up only when it fits together.
        for source, copy in (
            (self._source.key, self.files.key),
            (self._source.certificate, self.files.certificate),
        ):
            content = source.read_bytes()
            if not _holds(copy, content):
                write_private(copy, content, uid=self._uid, gid=self._gid)
                changed = True
        return changed

    async def keep(
        self, *, interval: float = HAND_OVER_INTERVAL, tell: Callable[[str], None] = lambda text: None
    ) -> None:
        """Copy for ever, as the operator's files change. A fault is told once, and does not end it."""
        told = ""
        while True:
            await asyncio.sleep(interval)
            problem = ""
            try:
                # A renewal in progress shows a pair that does not fit: wait for its second half.
                check_tls(self._source)
                self.copy()
            except (OSError, TidehubError) as error:
                problem = str(error)
            if problem and problem != told:
                tell(f"the certificate in use stays: {problem}")
            told = problem


def _holds(path: Path, content: bytes) -> bool:
    with contextlib.suppress(OSError):
        return path.read_bytes() == content
    return False
