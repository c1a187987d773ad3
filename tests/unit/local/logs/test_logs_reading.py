from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import pytest

from tidehub.errors import TidehubError, UsageError
from tidehub.local.logs import lines, reading
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


def test_logs_are_chosen_by_the_names_users_use(places: Places) -> None:
    assert list(reading.choose(places, None)) == ["hub"]
    assert list(reading.choose(places, "hub.log")) == ["hub"]
    assert list(reading.choose(places, "servers/alice")) == ["servers/alice"]
    assert list(reading.choose(places, "servers")) == ["servers/alice"]
    with pytest.raises(UsageError, match="nobody") as refused:
        reading.choose(places, "nobody")
    assert "servers/alice" in str(refused.value)
    with pytest.raises(TidehubError, match="no log of clusters in"):
        reading.choose(places, "clusters")


@pytest.mark.parametrize("part", ["../private/secrets", "/etc/passwd", ".."])
def test_nothing_outside_the_logs_is_read(places: Places, part: str) -> None:
    with pytest.raises(UsageError):
        reading.choose(places, part)


def test_without_a_platform(tmp_path: Path) -> None:
    with pytest.raises(TidehubError, match="no platform"):
        reading.choose(Places.of(tmp_path / "none"), None)


def test_last_lines(places: Places) -> None:
    log = places.logs / "hub.log"
    assert list(lines.last_lines(log, 2)) == [b"line 9998", b"line 9999"]
    assert list(lines.last_lines(log, 0)) == []
    assert len(list(lines.last_lines(log, 10**6))) == 10_000
    assert list(lines.last_lines(places.logs / "none.log", 5)) == []


def test_a_message_tells_only_what_this_run_wrote(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("before\nof before\n")
    (tmp_path / "x.log.1").write_text("rotated\n")
    size = log.stat().st_size
    assert lines.tail(log, 5) == "rotated / before / of before"
    assert lines.tail(log, 5, since=size) == ""
    with log.open("a") as more:
        more.write("one\ntwo\nthree\n")
    assert lines.tail(log, 5, since=size) == "one / two / three"
    assert lines.tail(log, 2, since=size) == "two / three"
    log.write_text("new\n")
    assert lines.tail(log, 5, since=size) == "rotated / new", "rotated in between"


def test_last_lines_at_every_edge_of_a_block(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    for length in (65_533, 65_534, 65_535, 65_536, 65_537, 131_072):
        for end in (b"", b"\n"):
            log.write_bytes(b"first\n" + b"y" * length + b"\nlast" + end)
            assert [line[:5] for line in lines.last_lines(log, 3)] == [b"first", b"yyyyy", b"last"]
            assert [line[:5] for line in lines.last_lines(log, 2)] == [b"yyyyy", b"last"]


def test_what_was_rotated_away_belongs_to_the_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.with_name("x.log.2").write_text("1\n2\n")
    log.with_name("x.log.1").write_text("3\n4\n")
    log.write_text("5\n")
    assert list(lines.last_lines(log, 1)) == [b"5"]
    assert list(lines.last_lines(log, 4)) == [b"2", b"3", b"4", b"5"]
    assert list(lines.last_lines(log, 9)) == [b"1", b"2", b"3", b"4", b"5"]


def test_a_line_of_any_length_takes_linear_time_and_little_memory(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    with log.open("wb") as stream:
        for _ in range(100):
            stream.write(b"y" * 2**20)
    tracemalloc.start()
    begun = time.process_time()
    [line] = lines.last_lines(log, 20)
    taken, (_, most) = time.process_time() - begun, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert line.endswith(b"yyy ... (%d bytes more)" % (100 * 2**20 - lines.LONGEST_SHOWN))
    # It took 21 s for a fifth of that when blocks were joined one by one.
    assert taken < 5 and most < 2 * 2**20


def test_following_goes_on_after_a_rotation(places: Places) -> None:
    path = places.logs / "hub.log"
    follower = lines.Followed(path)
    with path.open("a") as stream:
        stream.write("new\nhal")
    assert list(follower.more()) == [b"new"]
    with path.open("a") as stream:
        stream.write("f\nlast before")
    path.rename(path.with_name("hub.log.1"))
    assert list(follower.more()) == [b"half"]
    assert list(follower.more()) == []
    path.write_text("after\n")
    assert list(follower.more()) == [b"last before"]
    assert list(follower.more()) == [b"after"]


def test_following_a_flood_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.touch()
    follower = lines.Followed(path)
    with path.open("wb") as stream:
        for _ in range(64):
            stream.write(b"y" * 2**20)
        stream.write(b"\nend\n")
    tracemalloc.start()
    found: list[bytes] = []
    while found[-1:] != [b"end"]:
        found += follower.more()
    assert len(found) == 2 and tracemalloc.get_traced_memory()[1] < 4 * 2**20
    tracemalloc.stop()


def test_the_end_of_a_log_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.log").write_bytes(b"one\ntwo\n\n\x1b[2Jth\xffree\r\n")
    assert lines.tail(tmp_path / "x.log", 2) == "\\x1b[2Jth\\xffree\\x0d"
    assert lines.tail(tmp_path / "none.log", 2) == ""


def test_a_secret_on_the_edge_of_what_is_shown_is_hidden() -> None:
    splitter = lines.Splitter(lambda line: line.replace(b"the secret", b"[hidden]"), longest=20)
    [line] = splitter.feed(b"y" * 15 + b"the secret" + b"z" * 100 + b"\n")
    assert b"the s" not in line and line.startswith(b"y" * 15 + b"[hidd")


def test_secrets_are_hidden_in_logs_of_others(places: Places) -> None:
    token = load_secrets(places.secrets).operator_token.reveal()
    assert reading.redactor(places)(f"used {token}".encode()) == b"used [secret]"
