from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tidehub import __version__
from tidehub.cli import main, up
from tidehub.cli.console import PlainSay
from tidehub.errors import TidehubError
from tidehub.local.supervisor import status, stopping


def run_apart(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run a program that imports what this one does, in a process and an environment of its own."""
    paths = {"PYTHONPATH": ":".join(sys.path)}
    return subprocess.run(argv, env=paths, capture_output=True, text=True, timeout=60, check=False)


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out == f"tidehub {__version__}\n"


@pytest.mark.parametrize("arguments", [["nonsense"], ["up", "--nonsense"], ["up", "--port", "70000"], []])
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    assert main.run(arguments) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["up", "--port", "x"], "Invalid value for '--port': expected a whole number"),
        (["up", "--port", "70000"], "Invalid value for '--port': expected at most 65535"),
        (["logs", "-n", "-3"], "Invalid value for '-n' / '--lines': expected at least 0"),
        (["status", "--target", "moon"], "'moon' is not one of 'machine', 'kubernetes'"),
        (["backup", "mine.tar.gz"], "the backup's own name is given with --output"),
        (["stauts"], "Did you mean 'status'?"),
    ],
)
def test_wrong_usage_is_said_in_words(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(arguments) == 2
    told = capsys.readouterr().err
    assert words in told
    assert "Input should" not in told and "Value error" not in told


def test_foreseen_faults_are_words_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fault(*_: object) -> None:
        raise TidehubError("the moon is in the way", fix="wait")

    monkeypatch.setattr(up, "load_site_or_builtin", fault)
    assert main.run(["up", "--state", str(tmp_path / "state")]) == 1
    assert capsys.readouterr().err == "tidehub: the moon is in the way\n  to do: wait\n"
    assert not (tmp_path / "state").exists()


def test_ctrl_c_is_130_and_a_word(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(up, "load_site_or_builtin", interrupted)
    assert main.run(["up", "--state", str(tmp_path / "state")]) == 130
    assert capsys.readouterr().err == "Interrupted.\n"


def test_ctrl_c_before_the_program_is_imported_is_a_word_too() -> None:
    code = (
        "import os, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,)); os.kill(os.getpid(), signal.SIGINT); "
        "from tidehub.cli import main; main.main(['--version'])"
    )
    done = run_apart(sys.executable, "-c", code)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Interrupted.\n")


def test_a_wrong_site_file_leaves_nothing_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = tmp_path / "tidehub.yaml"
    site.write_text("nonsense: true\n")
    assert main.run(["up", "--site", str(site), "--state", str(tmp_path / "state")]) == 2
    assert "nonsense" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("status", 1, "No platform was set up"),
        ("down", 0, "Nothing runs"),
        ("logs", 1, "no platform was set up"),
    ],
)
def test_where_nothing_runs(
    command: str, code: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run([command, "--state", str(tmp_path / "state")]) == code
    shown = capsys.readouterr()
    assert words in shown.out + shown.err
    assert not (tmp_path / "state").exists()


def test_plain_output_has_no_control_characters_and_says_a_step_once() -> None:
    stream = io.StringIO()
    say = PlainSay(stream)
    for _ in range(3):
        say.step("fetching Node")
    say.done("Node is here")
    say.warn("little memory")
    assert stream.getvalue() == "fetching Node ...\nNode is here\nwarning: little memory\n"


def test_a_reader_that_went_away_is_no_fault() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    PlainSay(Gone()).note("nobody hears it")


def test_the_command_imports_nothing_heavy() -> None:
    code = (
        "import sys, tidehub.cli.main; "
        "print([name for name in ('jupyterhub', 'httpx', 'pydantic', 'ruamel', 'tornado', 'sqlalchemy')"
        " if name in sys.modules])"
    )
    done = run_apart(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_usage_names_the_command_as_users_type_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["up", "--bogus"]) == 2
    assert "Usage: tidehub up" in capsys.readouterr().err


_LOUD = "import sys; from tidehub.cli import main; main.main(sys.argv[1:])"
"""Long outputs: help and the schema of the site file."""


def _program(*arguments: str, stdout: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _LOUD, *arguments],
        env={"PYTHONPATH": ":".join(sys.path)},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("command", [["--help"], ["schema"], ["--version"], ["up", "--bogus"]])
def test_a_reader_that_goes_away_is_nothing_to_complain_of(command: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = _program(*command, stdout=writing)
    os.close(writing)
    _, told = done.communicate(timeout=60)
    assert done.returncode == (2 if "--bogus" in command else 0)
    assert "Traceback" not in told and "ignored" not in told


@pytest.mark.parametrize("command", [["--help"], ["schema"], ["--version"]])
def test_output_that_cannot_be_written_is_said(command: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = _program(*command, stdout=full.fileno())
        _, told = done.communicate(timeout=60)
    assert done.returncode == 1
    assert told == "tidehub: standard output cannot be written: No space left on device\n"


def test_a_closed_standard_output_is_nothing_to_complain_of() -> None:
    script = 'exec "$0" -c "$1" schema >&-'
    done = run_apart("/bin/sh", "-c", script, sys.executable, _LOUD)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", ["status", "down", "logs", "backup"])
def test_a_state_that_is_a_file_is_said(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    assert main.run([command, "--state", str(file)]) == 1
    shown = capsys.readouterr()
    told = shown.out + shown.err
    assert "notes.txt" in told and "Traceback" not in told and "may not" not in told
    assert ": Not a directory\n  to do: one part of this path is a file" in told


def test_a_fault_of_the_file_system_is_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fault(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/root/x/private/people.sqlite")

    monkeypatch.setattr(up, "load_site_or_builtin", fault)
    assert main.run(["up", "--state", str(tmp_path / "state")]) == 1
    assert capsys.readouterr().err == (
        "tidehub: cannot use /root/x/private/people.sqlite: Permission denied\n"
        "  to do: give this user access to it, or choose another directory with --state\n"
    )


@pytest.mark.parametrize(("words", "code"), [(["--now"], 0), ([], 1)])
def test_killing_what_was_to_be_killed_is_no_problem(
    words: list[str],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(status, "anything_to_stop", lambda places: True)
    monkeypatch.setattr(stopping, "stop_platform", lambda places, said, now: 1)
    assert main.run(["down", "--state", str(tmp_path), *words]) == code
    told = capsys.readouterr().out
    assert told.startswith("Killed. What stays:" if words else "Stopped, but not everything ended by itself")
