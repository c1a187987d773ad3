from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tidehub.errors import TidehubError
from tidehub.local.logs.rotating import LineCutter, RotatingLog
from tidehub.local.secrets import Secret
from tidehub.local.supervisor.pace import Backoff
from tidehub.local.supervisor.platform import Component, Ready
from tidehub.local.supervisor.process import LogPipe, how_it_ended, lines_that_matter
from tidehub.local.supervisor.state import own_state, read_state, write_state
from tidehub.local.supervisor.status import duration, status_lines
from tidehub.local.supervisor.supervisor import check_order
from tidehub.secrets.redaction import Redactor
from tidehub.system.processes import start_ticks


def test_backoff_doubles_to_its_most_and_starts_over_after_a_stable_run() -> None:
    backoff = Backoff(first=0.5, most=30, stable=60)
    assert [backoff.after(1) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert backoff.after(61) == 0.5
    assert backoff.after(1) == 1


def part(name: str, *after: str) -> Component:
    async def ready() -> Ready:
        return Ready(True)

    return Component(name, ["true"], {}, ready=ready, after=after)


@pytest.mark.parametrize(
    ("components", "problem"),
    [
        ([part("a"), part("a")], "same name"),
        ([part("a", "b")], "not a part of the platform"),
        ([part("a", "b"), part("b", "c"), part("c", "a")], "wait for each other"),
    ],
)
def test_an_impossible_order_is_refused(components: list[Component], problem: str) -> None:
    with pytest.raises(TidehubError, match=problem):
        check_order(components)


def test_logs_rotate_by_size_and_keep_so_many(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "part.log", limit=100, kept=2)
    for number in range(40):
        log.write(f"line {number:02}\n".encode())
    log.close()
    kept = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert set(kept) == {"part.log", "part.log.1", "part.log.2"}
    assert all(len(text) <= 100 for text in kept.values())
    assert kept["part.log"].endswith("line 39\n")
    joined = kept["part.log.2"] + kept["part.log.1"] + kept["part.log"]
    numbers = [int(line.split()[1]) for line in joined.splitlines()]
    assert numbers == list(range(numbers[0], 40))
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_a_log_that_cannot_be_written_loses_lines_and_nothing_else(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "gone" / "part.log")
    log.write(b"lost\n")
    (tmp_path / "gone").mkdir()
    log.write(b"kept\n")
    log.close()
    assert (tmp_path / "gone" / "part.log").read_bytes() == b"kept\n"


def test_a_pipe_redacts_whole_lines_whatever_the_pieces(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "part.log")
    pipe = LogPipe(log, Redactor([Secret("sesame"), Secret("open-sesame")]))
    for piece in (b"the word is open", b"-ses", b"ame\nlast", b" line"):
        pipe.data_received(piece)
    pipe.connection_lost(None)
    log.close()
    assert (tmp_path / "part.log").read_text() == "the word is [secret]\nlast line\n"
    assert list(pipe.lines) == ["the word is [secret]", "last line"]


def test_a_log_that_others_append_to_is_rotated_by_its_real_size(tmp_path: Path) -> None:
    path = tmp_path / "supervisor.log"
    code = (
        "import os, sys; from pathlib import Path\n"
        "from tidehub.local.logs.rotating import RotatingLog, outputs_to\n"
        "path = Path(sys.argv[1]); log = RotatingLog(path, limit=1000, kept=1, outputs=outputs_to(path))\n"
        "assert outputs_to(path) == [1, 2]\n"
        "for n in range(50): os.write(1, b'x' * 400 + b'\\n'); log.write(b'')\n"
        "os.write(2, b'last words\\n')\n"
    )
    with path.open("ab") as stream:
        source = str(Path(__file__).parents[4] / "src")
        argv = [sys.executable, "-c", code, str(path)]
        subprocess.run(argv, stdout=stream, stderr=stream, env={"PYTHONPATH": source}, check=True)
    assert path.read_bytes().endswith(b"last words\n")
    assert {file.name for file in tmp_path.iterdir()} == {"supervisor.log", "supervisor.log.1"}
    assert all(file.stat().st_size < 2000 for file in tmp_path.iterdir())


def test_a_secret_is_hidden_where_a_long_line_is_cut() -> None:
    cutter = LineCutter(Redactor([Secret("open-sesame")]), longest=5000)
    said = cutter.feed(b"y" * 4996 + b"open-s") + cutter.feed(b"ame" + b"z" * 9000) + cutter.rest()
    said += cutter.feed(b"y" * 4996 + b"open-s") + cutter.feed(b"esame" + b"z" * 9000) + cutter.rest()
    assert b"[secret]" in said and b"open-sesame" not in said.replace(b"\n", b"")
    assert said.count(b"y") == 2 * 4996 and said.count(b"z") == 18_000


async def test_a_part_that_floods_waits_and_the_loop_goes_on(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "part.log", limit=2**20, kept=1)
    flood = subprocess.Popen(["sh", "-c", "echo begin; exec yes flood"], stdout=subprocess.PIPE)
    loop = asyncio.get_running_loop()
    transport, pipe = await loop.connect_read_pipe(
        lambda: LogPipe(log, Redactor(), rate=2**20, burst=2**20), flood.stdout
    )
    used, slowest, end = time.process_time(), 0.0, time.monotonic() + 3
    while time.monotonic() < end:
        before = time.monotonic()
        await asyncio.sleep(0.005)
        slowest = max(slowest, time.monotonic() - before)
    used = time.process_time() - used
    flood.kill()
    flood.wait()
    transport.close()
    await pipe.ended.wait()
    log.close()
    assert used < 1.5 and slowest < 1.0
    assert len(pipe.lines) == 200 and pipe.lines[-2] == "flood"
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 2 * 2**20


def test_remembered_lines_control_no_terminal(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "part.log")
    pipe = LogPipe(log, Redactor())
    pipe.data_received(b"\x1b[2J\xff ok\n" + b"y" * 10_000 + b"\n")
    log.close()
    assert pipe.lines[0] == "\\x1b[2J\\xff ok" and len(pipe.lines[1]) < 5000


def test_of_a_traceback_the_end_matters() -> None:
    lines = ["hello", *(f"info {n}" for n in range(30)), "Traceback (most recent call last):"]
    lines += ['  File "x.py", line 1', "    boom()", "OSError: the disk is full"]
    found = lines_that_matter(lines)
    assert found[0].startswith("Traceback")
    assert found[-1] == "OSError: the disk is full"


def test_without_a_cause_the_last_lines_matter() -> None:
    assert lines_that_matter([f"step {n}" for n in range(50)], 3) == ["step 47", "step 48", "step 49"]
    assert lines_that_matter([]) == []


def test_causes_before_chatter_are_found() -> None:
    lines = ["start", "[C] cannot open the database", "bye", ""]
    assert lines_that_matter(lines) == ["[C] cannot open the database", "bye"]


def test_how_a_process_ended() -> None:
    assert how_it_ended(3) == "exit code 3"
    assert how_it_ended(-9) == "killed by SIGKILL"


def test_the_state_file_knows_its_process(tmp_path: Path) -> None:
    path = tmp_path / "private" / "platform.json"
    path.parent.mkdir()
    assert read_state(path) is None
    write_state(path, own_state(state="running", address="http://127.0.0.1:1/"))
    found = read_state(path)
    assert found is not None
    assert found.alive
    assert (found.pid, found.address) == (os.getpid(), "http://127.0.0.1:1/")
    assert start_ticks(2**22 + 1) is None


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"pid": "x", "started": 1, "since": 0, "state": "running"}']
)
def test_a_damaged_state_file_says_what_to_do(tmp_path: Path, text: str) -> None:
    path = tmp_path / "platform.json"
    path.write_text(text)
    with pytest.raises(TidehubError, match="damaged") as refused:
        read_state(path)
    assert "remove it" in str(refused.value)


def test_durations() -> None:
    assert [duration(value) for value in (0, 59.9, 3600, 3725, 90061)] == [
        "0 s",
        "59 s",
        "1 h",
        "1 h 2 min",
        "1 d 1 h",
    ]


def test_status_in_words() -> None:
    status = {
        "state": "running",
        "address": "http://127.0.0.1:8000/",
        "pid": 5,
        "uptime": 60,
        "state_dir": "/state",
        "parts": [
            {"name": "hub", "state": "ready", "pid": 7, "restarts": 2, "since": 100.0, "why": ""},
            {
                "name": "proxy",
                "state": "restarting",
                "pid": None,
                "restarts": 0,
                "since": 100.0,
                "why": "hung",
            },
        ],
        "servers": [{"id": "server:alice:", "memory": 3 * 2**29, "pid": 9, "processes": 2}],
        "queue": [{"id": "server:bob:", "owner": "bob", "place": 1, "reason": "waiting for memory"}],
        "memory": {"guaranteed": 2**30, "capacity": 2**32},
        "gaps": ["disk space of homes is not limited"],
    }
    text = "\n".join(status_lines(status, now=160.0))
    assert "running at http://127.0.0.1:8000/  (process 5, for 1 min)" in text
    assert "pid 7, restarted 2 times" in text
    assert "restarting" in text
    assert "hung" in text
    assert "server:alice:" in text
    assert "1.5 GiB  pid 9" in text
    assert "1. server:bob:: waiting for memory" in text
    assert "memory guaranteed to users: 1 GiB of 4 GiB" in text
    assert "disk space of homes" in text


@pytest.mark.parametrize("state", ["none", "stopped", "kept", "crashed", "silent", "preparing"])
def test_each_state_without_a_running_platform_has_its_words(state: str) -> None:
    (line,) = status_lines({"state": state, "state_dir": "/state", "logs": "/state/logs", "pid": 5})
    assert "/state" in line


def test_status_names_a_full_disk() -> None:
    disk = {
        "name": "/srv/hub on /dev/sdb1",
        "total": 10 * 2**30,
        "free": 2**20,
        "problem": "the disk of this platform is full: 1 MiB are free",
    }
    lines = status_lines({"state": "running", "disk": disk})
    assert "free on the disk (/srv/hub on /dev/sdb1): 1 MiB of 10 GiB" in lines
    assert "warning: the disk of this platform is full: 1 MiB are free" in lines
    assert (
        status_lines({"state": "running", "disk": {"problem": "cannot be seen"}})[-1]
        == "warning: cannot be seen"
    )


def test_status_names_users_above_their_limit_and_those_who_cannot_be_counted() -> None:
    users = [
        {"user": "bob", "bytes": 11 * 2**30, "complete": False, "over": True},
        {"user": "eve", "bytes": 2**30, "complete": False, "over": False},
        {"user": "ana", "bytes": 2**30, "complete": True, "over": False},
    ]
    lines = status_lines({"state": "running", "users_files": {"limit": 10 * 2**30, "users": users}})
    assert lines[-3:] == [
        "users above notebooks.home.size (10 GiB):",
        "  bob: at least 11 GiB",
        "users whose files could not all be counted: eve",
    ]
    assert "files" not in "".join(
        status_lines({"state": "running", "users_files": {"limit": None, "users": []}})
    )
