"""What parts are handed, and what becomes of the layouts of older versions."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tidehub.identity.private_files import read_private
from tidehub.local.service_files import own_directory, remove_older_layout, write_for_part

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
UID = 69998


def test_without_a_group_a_file_is_the_operators_alone(tmp_path: Path) -> None:
    write_for_part(tmp_path / "a.json", "{}", None)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o600
    assert read_private(tmp_path / "a.json", "It") == "{}"


@needs_root
@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_a_part_reads_its_file_and_cannot_change_it(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_for_part(tmp_path / "a.json", "{}", UID)
    finally:
        os.umask(before)
    found = (tmp_path / "a.json").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (0, UID, 0o640)


@needs_root
def test_a_directory_of_an_older_version_is_handed_over(tmp_path: Path) -> None:
    """Files of root's in it, as a version that was killed left them; a link and a second name keep their owner."""
    own = tmp_path / "identity"
    own.mkdir(mode=0o755)
    os.chown(own, UID, UID)
    (own / "identity.sqlite").write_text("accounts")
    outside = tmp_path / "outside"
    outside.write_text("root's")
    (own / "link").symlink_to(outside)
    (own / "second-name").hardlink_to(outside)
    own_directory(own, uid=UID, gid=UID)
    assert (own.stat().st_uid, stat.S_IMODE(own.stat().st_mode)) == (UID, 0o700)
    assert (own / "identity.sqlite").stat().st_uid == UID
    assert outside.stat().st_uid == 0
    assert (own / "link").lstat().st_uid == 0
    # A machine whose interpreter is closed to other uids: the provider is the operator's again.
    own_directory(own, uid=None, gid=None)
    assert own.stat().st_uid == (own / "identity.sqlite").stat().st_uid == 0


def test_copies_of_secrets_of_older_versions_go_away(tmp_path: Path) -> None:
    (tmp_path / "proxy" / "tls").mkdir(parents=True)
    (tmp_path / "proxy" / "tls" / "key.pem").write_text("secret")
    (tmp_path / "dashboards").mkdir()
    (tmp_path / "dashboards" / "dashboards.json").write_text("secret")
    (tmp_path / "identity").mkdir()
    for name in ("identity.json", "identity.sqlite"):
        (tmp_path / "identity" / name).write_text("x")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "proxy.json").write_text("not ours")
    (tmp_path / "gateway-proxy").symlink_to(outside)
    for _ in range(2):
        remove_older_layout(tmp_path)
        left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
        assert left == {
            "identity",
            "identity/identity.sqlite",
            "outside",
            "outside/proxy.json",
            "gateway-proxy",
        }
