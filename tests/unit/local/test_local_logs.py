from __future__ import annotations

from pathlib import Path

import pytest

from tidehub.errors import TidehubError, UsageError
from tidehub.local import logs
from tidehub.local.places import Places
from tidehub.local.secrets import load_secrets


@pytest.fixture
def places(tmp_path: Path) -> Places:
    made = Places.of(tmp_path / "state")
    for directory in (made.private, made.server_logs, made.cluster_logs):
        directory.mkdir(parents=True)
    (made.logs / "hub.log").write_text("".join(f"line {n}\n" for n in range(10_000)))
    (made.server_logs / "alice.log").write_text("server of alice\n")
    return made


def test_logs_are_chosen_by_the_names_people_use(places: Places) -> None:
    assert list(logs.choose(places, None)) == ["hub"]
    assert list(logs.choose(places, "hub.log")) == ["hub"]
    assert list(logs.choose(places, "servers/alice")) == ["servers/alice"]
    assert list(logs.choose(places, "servers")) == ["servers/alice"]
    with pytest.raises(UsageError, match="nobody") as refused:
        logs.choose(places, "nobody")
    assert "servers/alice" in str(refused.value)


@pytest.mark.parametrize("part", ["../private/secrets", "/etc/passwd", ".."])
def test_nothing_outside_the_logs_is_read(places: Places, part: str) -> None:
    with pytest.raises(UsageError):
        logs.choose(places, part)


def test_without_a_platform(tmp_path: Path) -> None:
    with pytest.raises(TidehubError, match="no platform"):
        logs.choose(Places.of(tmp_path / "none"), None)


def test_last_lines(places: Places) -> None:
    assert logs.last_lines(places.logs / "hub.log", 2) == [b"line 9998", b"line 9999"]
    assert logs.last_lines(places.logs / "hub.log", 0) == []
    assert len(logs.last_lines(places.logs / "hub.log", 10**6)) == 10_000
    assert logs.last_lines(places.logs / "none.log", 5) == []


def test_following_goes_on_after_a_rotation(places: Places) -> None:
    path = places.logs / "hub.log"
    follower = logs._Followed(path, path.stat().st_size)
    with path.open("a") as stream:
        stream.write("new\nhal")
    assert follower.more() == [b"new"]
    with path.open("a") as stream:
        stream.write("f\n")
    assert follower.more() == [b"half"]
    path.rename(path.with_name("hub.log.1"))
    assert follower.more() == []
    path.write_text("after\n")
    assert follower.more() == [b"after"]


def test_secrets_are_hidden_in_logs_of_others(places: Places) -> None:
    token = load_secrets(places.secrets).operator_token.reveal()
    assert logs.redactor(places)(f"used {token}".encode()) == b"used [secret]"
