"""`check` believes the platform's own certificate, and still nobody else's."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tidehub.checks.browser import Browser, trust
from tidehub.checks.report import PhaseFailed


def certificate(directory: Path, host: str) -> tuple[Path, Path]:
    """A self-signed certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert, private = directory / f"{host}.pem", directory / f"{host}.key"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return cert, private


async def _asked(cert: Path, key: Path, trusted: Path | None) -> int:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    async with server, Browser(f"https://localhost:{port}/", certificate=trusted) as browser:
        return (await browser.open("")).status


async def test_the_own_certificate_is_trusted(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "localhost")
    assert await _asked(cert, key, cert) == 204


async def test_without_it_or_with_another_it_is_not(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "localhost")
    other, _ = certificate(tmp_path, "other.example.org")
    for trusted in (None, other):
        with pytest.raises(PhaseFailed, match=r"(?i)certificate"):
            await _asked(cert, key, trusted)


async def test_the_name_in_it_still_counts(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "other.example.org")
    with pytest.raises(PhaseFailed, match=r"(?i)certificate"):
        await _asked(cert, key, cert)


def test_a_missing_file_changes_nothing(tmp_path: Path) -> None:
    assert trust(tmp_path / "none").verify_flags == trust(None).verify_flags
