from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tidehub.cli import main
from tidehub.local.places import Places


@pytest.fixture
def places(tmp_path: Path) -> Places:
    made = Places.of(tmp_path / "my state")
    made.logs.mkdir(parents=True)
    (made.logs / "proxy.log").write_text("[ConfigProxy] \x1b[32minfo\x1b[39m: Route added \x1b]0;title\x07\n")
    return made


def test_colors_are_left_out_and_other_sequences_show_as_text(
    places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["logs", "proxy", "--state", str(places.state)]) == 0
    assert capsys.readouterr().out == "[ConfigProxy] info: Route added \\x1b]0;title\\x07\n"


def test_each_line_is_an_object_where_json_is_asked_for(
    places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["logs", "--json", "--state", str(places.state)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    assert told["log"] == "proxy" and told["line"].startswith("[ConfigProxy] info: Route added")


def test_logs_of_users_who_have_none_yet(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["logs", "servers", "--state", str(places.state)]) == 1
    assert "no log of servers" in capsys.readouterr().err


def test_following_ends_when_its_reader_has_gone_away(places: Places) -> None:
    code = "import sys; from tidehub.cli import main; main.main(sys.argv[1:])"
    following = subprocess.Popen(
        [sys.executable, "-c", code, "logs", "-f", "--state", str(places.state)],
        env={"PYTHONPATH": ":".join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert following.stdout is not None and following.stderr is not None
        assert b"Route added" in following.stdout.readline()
        following.stdout.close()
        while following.poll() is None:
            with (places.logs / "proxy.log").open("a") as log:
                log.write("one more\n")
            with contextlib.suppress(subprocess.TimeoutExpired):
                following.wait(0.2)
        assert following.returncode == 0
        assert following.stderr.read() == b""
    finally:
        if following.poll() is None:
            os.kill(following.pid, signal.SIGKILL)
            following.wait()


def test_commands_in_messages_can_be_pasted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "it's mine"
    assert main.run(["status", "--state", str(state)]) == 1
    assert f"Start one: tidehub up --state '{tmp_path}/it'\"'\"'s mine'\n" in capsys.readouterr().out
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main.run(["status"]) == 1
    assert capsys.readouterr().out.endswith("Start one: tidehub up\n")


def test_probes_are_left_out_and_the_number_of_lines_is_of_the_others(
    places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    probe = "[I 2026-12-01 10:55:16.120 DaskGateway] 200 GET /api/v1/routes 0.357ms\n"
    (places.logs / "gateway.log.1").write_text("oldest\n")
    (places.logs / "gateway.log").write_text("first\n" + probe * 500 + "second\n" + probe * 500)
    state = ["--state", str(places.state)]
    assert main.run(["logs", "gateway", "-n", "2", *state]) == 0
    assert capsys.readouterr().out == "first\nsecond\n"
    assert main.run(["logs", "gateway", "-n", "9", *state]) == 0
    assert capsys.readouterr().out == "oldest\nfirst\nsecond\n"
    assert main.run(["logs", "gateway", "-n", "2", "--probes", *state]) == 0
    assert capsys.readouterr().out == probe * 2
    assert main.run(["logs", "gateway", "-n", "0", *state]) == 0
    assert capsys.readouterr().out == ""


def test_since(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    def written(seconds: float) -> str:
        return (datetime.now(UTC) - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")

    old = [f"{written(7200)} older {number}\n" for number in range(50)]
    new = [f"{written(60)} newer {number}\n" for number in range(50)]
    (places.logs / "supervisor.log").write_text("".join([*old, *new, " its second line\n"]))
    state = ["--state", str(places.state)]
    assert main.run(["logs", "supervisor", "--since", "10 min", *state]) == 0
    assert capsys.readouterr().out == "".join([*new, " its second line\n"])
    assert main.run(["logs", "supervisor", "--since", "1 h", "-n", "2", *state]) == 0
    assert capsys.readouterr().out == f"{new[-1]} its second line\n"
    assert main.run(["logs", "supervisor", "--since", "20", *state]) == 2
    assert "20 min or 20 s" in capsys.readouterr().err
