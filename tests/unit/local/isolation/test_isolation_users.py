"""The identity table: never the same uid or home for two names."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from tidehub.errors import TidehubError
from tidehub.local.isolation.users import Users, proxy_uid, safe_slug, services_uid

UIDS = range(70000, 70100)


def table(tmp_path: Path, uids: range = UIDS, **more: object) -> Users:
    return Users(tmp_path / "private" / "people.sqlite", homes=tmp_path / "homes", uids=uids, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("alice", "alice"),
        ("alice.b_c-d", "alice.b_c-d"),
        ("0a", "0a"),
        ("Alice", "alice---3bc51062973c"),
        ("", "x---e3b0c44298fc"),
        (".", "x---cdb4ee2aea69"),
        ("..", "x---5ec1f7e700f3"),
        ("../alice", "alice---"),
        ("/etc/passwd", "etc-passwd---"),
        ("a/b", "a-b---"),
        (".hidden", "hidden---"),
        ("alice.", "alice---"),
        ("-rf", "rf---"),
        ("a..b", "a-b---"),
        ("a--b", "a-b---"),
        ("alice---3bc51062973c", "alice-3bc51062973c---"),
        ("alice@example.org", "alice-example-org---"),
        ("a b", "a-b---"),
        ("a\nb", "a-b---"),
        ("a:b", "a-b---"),
        ("Zoë Müller", "zoe-muller---"),
        ("日本語", "x---"),
        ("a\u202eb", "ab---"),
        ("lost+found", "lost-found---"),
    ],
)
def test_slug_of(name: str, slug: str) -> None:
    assert safe_slug(name).startswith(slug)
    assert slug.endswith("---") or safe_slug(name) == slug


def test_slugs_are_safe_and_differ() -> None:
    names = [
        *(
            "alice",
            "Alice",
            "ALICE",
            "alice ",
            " alice",
            "alice/",
            "alice\\",
            "alice.",
            "",
            ".",
            "..",
            "~",
            "a" * 48,
        ),
        *(
            "a" * 49,
            "a" * 255,
            "a" * 254 + "b",
            "é" * 255,
            "é",
            unicodedata.normalize("NFD", "é"),
            "ß",
            "ss",
            "\ud800",
        ),
        *("x---e3b0c44298fc", "alice---3bc51062973c", "ﬁ", "fi", "%00", "con", "tmp", ".tmp"),
    ]
    slugs = [safe_slug(name) for name in names]
    assert len(set(slugs)) == len(names)
    for slug in slugs:
        assert 0 < len(slug) <= 48
        assert slug == slug.lower() and slug.isascii() and slug[0].isalnum() and slug[-1].isalnum()
        assert not set(slug) - set("abcdefghijklmnopqrstuvwxyz0123456789-._")


def test_a_user_keeps_uid_and_directory(tmp_path: Path) -> None:
    first = table(tmp_path).enrol("alice")
    again = table(tmp_path).enrol("alice")
    assert first == again
    assert (first.number, first.directory) == (70000, "alice")
    assert table(tmp_path).enrol("Alice").number == 70001
    assert [one.name for one in table(tmp_path).everyone()] == ["alice", "Alice"]


def test_removed_users_leave_uid_and_directory_reserved(tmp_path: Path) -> None:
    users = table(tmp_path)
    old = users.enrol("alice")
    assert users.remove("alice") and not users.remove("alice")
    assert users.find("alice") is None
    new = users.enrol("alice")
    assert new.number > old.number and new.directory != old.directory
    assert users.remove("alice")
    assert len({old.directory, new.directory, users.enrol("alice").directory}) == 3


def test_uids_of_real_accounts_are_left_out(tmp_path: Path) -> None:
    users = table(tmp_path, taken=lambda uid: uid in {70000, 70002})
    assert [users.enrol(name).number for name in ("a", "b")] == [70001, 70003]


def test_a_full_range_says_so_and_stays_full(tmp_path: Path) -> None:
    users = table(tmp_path, uids=range(70000, 70002))
    users.enrol("a")
    users.enrol("b")
    users.remove("a")
    with pytest.raises(TidehubError, match="70000-70001 were given out"):
        users.enrol("c")
    assert users.enrol("b").number == 70001


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800"])
def test_names_that_nothing_can_hold(tmp_path: Path, name: str) -> None:
    with pytest.raises(TidehubError, match="not a user's name"):
        table(tmp_path).enrol(name)


def test_the_table_is_private(tmp_path: Path) -> None:
    users = table(tmp_path)
    users.enrol("alice")
    assert stat.S_IMODE(users.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(users.path.parent.stat().st_mode) == 0o700


def test_a_damaged_table_is_not_replaced(tmp_path: Path) -> None:
    users = table(tmp_path)
    users.enrol("alice")
    users.path.write_bytes(b"not a database" * 1000)
    with pytest.raises(TidehubError, match=r"users is damaged.*(\n.*)*backup"):
        users.enrol("alice")
    assert users.path.read_bytes().startswith(b"not a database")


def test_a_lost_table_does_not_hand_out_owned_files(tmp_path: Path) -> None:
    (tmp_path / "homes" / "alice").mkdir(parents=True)
    me = os.getuid()
    users = table(tmp_path, uids=range(me, me + 10), taken=lambda uid: False)
    assert users.enrol("mallory").number == me + 1


def test_several_processes_never_share(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tidehub.local.isolation.users import Users\n"
        "p = Users(Path(sys.argv[1]) / 'people.sqlite', homes=Path(sys.argv[1]))\n"
        "for i in range(15): p.enrol(f'shared{i}'); p.enrol(f'own{sys.argv[2]}-{i}')"
    )
    path = os.pathsep.join(sys.path)
    jobs = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(n)], env={"PYTHONPATH": path})
        for n in range(3)
    ]
    assert [job.wait(60) for job in jobs] == [0, 0, 0]
    entries = Users(tmp_path / "people.sqlite", homes=tmp_path).everyone()
    assert len(entries) == 15 + 3 * 15
    assert len({one.number for one in entries}) == len({one.directory for one in entries}) == len(entries)


def test_service_uids_stand_before_the_range() -> None:
    assert (proxy_uid(), services_uid()) == (69999, 69998)
    assert proxy_uid(range(200000, 200100)) == 199999
