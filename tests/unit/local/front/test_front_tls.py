from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tidehub.errors import UsageError
from tidehub.local.front.ports import reachable_host
from tidehub.local.front.proxy import FrontDoor
from tidehub.local.front.tls import HandOver, TlsFiles, check_tls

NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)


def pair(directory: Path, *, password: bytes | None = None, days: int = 60) -> TlsFiles:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "site.example")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - datetime.timedelta(days=100))
        .not_valid_after(NOW + datetime.timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    directory.mkdir(exist_ok=True)
    files = TlsFiles(directory / "cert.pem", directory / "key.pem")
    files.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    cipher: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        cipher = serialization.BestAvailableEncryption(password)
    files.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, cipher)
    )
    return files


def test_a_good_pair_needs_no_words(tmp_path: Path) -> None:
    assert check_tls(pair(tmp_path), now=NOW) == []


def test_an_old_certificate_is_a_warning(tmp_path: Path) -> None:
    (soon,) = check_tls(pair(tmp_path, days=3), now=NOW)
    assert "ends on 2026-06-04" in soon
    (ended,) = check_tls(pair(tmp_path, days=-1), now=NOW)
    assert "ended on 2026-05-31" in ended


def test_what_cannot_be_used_is_said_in_words(tmp_path: Path) -> None:
    one, two = pair(tmp_path / "one"), pair(tmp_path / "two")
    with pytest.raises(UsageError, match="is not the key of"):
        check_tls(TlsFiles(one.certificate, two.key))
    with pytest.raises(UsageError, match="is encrypted"):
        check_tls(pair(tmp_path / "locked", password=b"x"))
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        check_tls(TlsFiles(one.certificate, tmp_path / "none"))
    (tmp_path / "text").write_text("hello")
    with pytest.raises(UsageError, match="not a certificate and its key"):
        check_tls(TlsFiles(tmp_path / "text", one.key))


def test_copies_are_private_and_made_only_when_something_changed(tmp_path: Path) -> None:
    files = pair(tmp_path / "source")
    hand_over = HandOver(files, TlsFiles(tmp_path / "certificate.pem", tmp_path / "key.pem"), gid=None)
    assert hand_over.copy()
    assert not hand_over.copy()
    assert hand_over.files.key.stat().st_mode & 0o777 == 0o600
    pair(tmp_path / "source")
    assert hand_over.copy()
    assert hand_over.files.key.read_bytes() == files.key.read_bytes()


def test_addresses() -> None:
    assert [reachable_host(address) for address in ("0.0.0.0", "::", "::1", "192.0.2.1")] == [
        "127.0.0.1",
        "[::1]",
        "[::1]",
        "192.0.2.1",
    ]


def test_trusted_proxies_must_be_addresses() -> None:
    with pytest.raises(UsageError, match=r"proxy\.example"):
        FrontDoor("127.0.0.1", 8000, trusted_proxies=("proxy.example",)).check()


@pytest.mark.parametrize(
    ("trusted", "users_have_uids", "gap"),
    [
        (("127.0.0.1",), False, True),
        (("127.0.0.1",), True, False),
        (("10.0.0.0/8", "::1"), False, True),
        (("0.0.0.0/1",), False, True),
        (("10.0.0.0/8",), False, False),
        (("126.0.0.0/7",), False, True),
        ((), False, False),
    ],
)
def test_a_trusted_address_that_users_share_is_a_gap_where_no_uid_tells_them_apart(
    trusted: tuple[str, ...], users_have_uids: bool, gap: bool
) -> None:
    door = FrontDoor("127.0.0.1", 8000, trusted_proxies=trusted)
    assert bool(door.gaps(users_have_uids=users_have_uids)) is gap
