"""Two platforms of one machine never give one uid to two users."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidehub.errors import TidehubError
from tidehub.local.isolation.users import UidClaims, Users

UIDS = range(70000, 70004)


def platform(tmp_path: Path, name: str) -> tuple[UidClaims, Path]:
    state = tmp_path / name
    (state / "private").mkdir(parents=True, exist_ok=True)
    (state / "private" / "platform-id").write_text(f"{name * 32}"[:32] + "\n")
    return UidClaims(state, (name * 32)[:8], tmp_path / "uids"), state


def users(tmp_path: Path, name: str) -> Users:
    claims, state = platform(tmp_path, name)
    return Users(
        state / "private" / "people.sqlite",
        homes=state / "homes",
        uids=UIDS,
        taken=lambda uid: False,
        claims=claims,
    )


def test_a_uid_belongs_to_one_platform(tmp_path: Path) -> None:
    a, b = users(tmp_path, "a"), users(tmp_path, "b")
    assert a.enrol("alice").number == 70000
    assert b.enrol("alice").number == 70001
    assert a.enrol("bob").number == 70002
    assert users(tmp_path, "a").enrol("alice").number == 70000


def test_a_known_users_uid_is_claimed_later_too(tmp_path: Path) -> None:
    claims, state = platform(tmp_path, "a")
    before = Users(
        state / "private" / "people.sqlite", homes=state / "homes", uids=UIDS, taken=lambda u: False
    )
    before.enrol("alice")
    users(tmp_path, "a").enrol("alice")
    assert claims.take(70000)
    assert users(tmp_path, "b").enrol("carol").number == 70001


def test_only_when_none_is_left_the_uids_of_a_platform_that_is_gone_come_back(tmp_path: Path) -> None:
    gone, a = users(tmp_path, "g"), users(tmp_path, "a")
    assert [gone.enrol(name).number for name in ("x", "y")] == [70000, 70001]
    assert [a.enrol(name).number for name in ("k", "l")] == [70002, 70003]
    with pytest.raises(TidehubError, match="no uid is left"):
        a.enrol("m")
    (tmp_path / "g" / "private" / "platform-id").unlink()
    assert a.enrol("m").number == 70000
    assert a.enrol("n").number == 70001
    with pytest.raises(TidehubError, match="no uid is left"):
        a.enrol("o")


def test_a_damaged_claim_is_somebodys(tmp_path: Path) -> None:
    claims, _ = platform(tmp_path, "a")
    claims.directory.mkdir()
    (claims.directory / "70000").write_text("{half")
    assert not claims.take(70000)
    assert not claims.take_abandoned(70000)


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TidehubError, match="cannot be claimed"):
        UidClaims(tmp_path, "a", tmp_path / "file" / "uids").take(70000)
