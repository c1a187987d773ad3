from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from tidehub.local.process import LAST_LINES, ProgramFailed, redact, run

PYTHON = sys.executable


def script(text: str) -> list[str]:
    return [PYTHON, "-I", "-S", "-c", text]


def test_success_returns_both_streams() -> None:
    finished = run(script("import sys; print('out'); print('err', file=sys.stderr)"), deadline=30)
    assert (finished.stdout, finished.stderr) == ("out\n", "err\n")


def test_failure_carries_the_last_lines_and_the_code() -> None:
    with pytest.raises(ProgramFailed) as caught:
        run(
            script("import sys\nfor n in range(40): print('line', n, file=sys.stderr)\nsys.exit(3)"),
            deadline=30,
        )
    assert caught.value.code == 3
    assert caught.value.output.splitlines() == [f"line {n}" for n in range(40 - LAST_LINES, 40)]
    assert "exit code 3" in str(caught.value)
    assert "line 39" in str(caught.value)


def test_a_signal_is_named() -> None:
    with pytest.raises(ProgramFailed, match="killed by SIGTERM"):
        run(script("import os, signal; os.kill(os.getpid(), signal.SIGTERM)"), deadline=30)


def test_a_missing_program_is_named() -> None:
    with pytest.raises(ProgramFailed, match="/nowhere/prog cannot be started: No such file"):
        run(["/nowhere/prog"], deadline=1)


def test_the_deadline_ends_the_whole_group(tmp_path: Path) -> None:
    noted = tmp_path / "grandchild"
    program = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([{PYTHON!r}, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(noted)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(60)"
    )
    began = time.monotonic()
    with pytest.raises(ProgramFailed, match="took longer than 2 s"):
        run(script(program), deadline=2)
    assert time.monotonic() - began < 20
    pid = int(noted.read_text())
    end = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        assert time.monotonic() < end, "the grandchild outlived its group"
        os.sched_yield()


def test_standard_input_is_handed_over_and_otherwise_empty() -> None:
    assert run(script("import sys; print(sys.stdin.read())"), deadline=30, stdin="hello").stdout == "hello\n"
    assert run(script("import sys; print(repr(sys.stdin.read()))"), deadline=30).stdout == "''\n"


def test_files_of_the_program_are_readable_whatever_the_callers_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        run(script("open('made', 'w')"), cwd=tmp_path, deadline=30)
    finally:
        os.umask(before)
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o644


def test_lines_are_told_while_it_runs_without_secrets() -> None:
    told: list[str] = []
    run(
        script("import sys; print('fetching https://ann:pw1@index/simple with hunter2', file=sys.stderr)"),
        deadline=30,
        on_line=told.append,
        secrets=["hunter2"],
    )
    assert told == ["fetching https://***@index/simple with ***"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://u:p@h/x", "http://***@h/x"),
        ("token=abc123 next", "token=*** next"),
        ('"password": "s3cret"', '"password": ***'),
        ("API_KEY: k", "API_KEY: ***"),
        ("a mail to ann@example.org", "a mail to ann@example.org"),
        ("no secret here", "no secret here"),
    ],
)
def test_redaction(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_a_failure_never_shows_a_secret() -> None:
    with pytest.raises(ProgramFailed) as caught:
        run(
            script("import sys; sys.exit('bad index https://ann:pw1@index/ and hunter2')"),
            deadline=30,
            secrets=["hunter2"],
        )
    assert "pw1" not in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "bad index" in str(caught.value)


@pytest.mark.parametrize("ending", ["", "\\n"])
def test_who_says_too_much_is_ended(ending: str) -> None:
    """One endless line too: what a program writes is kept in memory."""
    endless = f"import sys\nwhile True: sys.stdout.write('x' * 1000 + '{ending}')"
    with pytest.raises(ProgramFailed, match="more than 100000 characters"):
        run(script(endless), deadline=60, most=100_000)
    assert run(script("print('x' * 1000)"), deadline=30, most=1001).stdout == "x" * 1000 + "\n"
