"""When systemd is asked for a control group, and how; against a fake tree and a fake `systemd-run`."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from fake_cgroups import FakeV2, v2_machine

from tidehub.local.isolation import systemd
from tidehub.local.isolation.cgroup_bases import Machine


@pytest.fixture
def fake_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Notes its arguments; then does as `systemd-run --scope`: becomes the program."""
    noted = tmp_path / "noted"
    program = tmp_path / "bin" / "systemd-run"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        f"open({str(noted)!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
        "if os.environ.get('REFUSE'): sys.exit(1)\n"
        "rest = sys.argv[sys.argv.index('--') + 1:]\nos.execvp(rest[0], rest)\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.delenv(systemd.ASKED, raising=False)
    return noted


def here(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    monkeypatch.setattr(systemd.Machine, "here", classmethod(lambda cls: machine))


def tree(tmp_path: Path, *groups: str) -> FakeV2:
    made = FakeV2(tmp_path / "cg")
    for group in groups:
        made.make(made.root / group)
    return made


def test_a_session_is_left_for_a_scope_of_our_own(
    tmp_path: Path, fake_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here(monkeypatch, v2_machine(tree(tmp_path, "session-1.scope"), "/session-1.scope", systemd=True))
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execvp", lambda program, argv: started.append(argv))
    systemd.enter_scope("p")
    (argv,) = started
    assert argv[0] == "systemd-run" and argv[-len(sys.orig_argv) :] == [sys.executable, *sys.orig_argv[1:]]
    assert {"--scope", "--slice=tidehub.slice", "Delegate=yes"} <= set(argv)
    assert ("--user" in argv) == (os.geteuid() != 0)
    # The program that starts anew finds this, and goes on.
    assert os.environ[systemd.ASKED] == "1"
    systemd.enter_scope("p")
    assert len(started) == 1 and systemd.ASKED not in os.environ


@pytest.mark.parametrize(
    ("group", "more"),
    [
        (
            "tidehub.service",
            {},
        ),  # a unit, also one that delegates nothing: systemd watches its main process there
        ("given.scope", {"delegated": "given.scope"}),
        ("run-1.scope", {"owned": "run-1.scope", "root": False}),
    ],
)
def test_who_stands_in_a_group_of_their_own_stays(
    tmp_path: Path, fake_run: Path, monkeypatch: pytest.MonkeyPatch, group: str, more: dict[str, object]
) -> None:
    monkeypatch.setenv("INVOCATION_ID", "5f0c")
    here(monkeypatch, v2_machine(tree(tmp_path, group), f"/{group}", systemd=True, **more))  # type: ignore[arg-type]
    monkeypatch.setattr(os, "execvp", lambda *argv: pytest.fail("started anew"))
    systemd.enter_scope("p")
    assert not fake_run.exists()


def test_a_job_in_the_group_of_cron_leaves_it(
    tmp_path: Path, fake_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cron starts does not have the variables that systemd gave to cron."""
    monkeypatch.delenv("INVOCATION_ID", raising=False)
    here(monkeypatch, v2_machine(tree(tmp_path, "cron.service"), "/cron.service", systemd=True))
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execvp", lambda program, argv: started.append(argv))
    systemd.enter_scope("p")
    assert len(started) == 1 and "--scope" in started[0]


def test_a_process_is_moved_beside_users_programs(
    tmp_path: Path, fake_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tree(tmp_path, "tidehub.slice", "tidehub.slice/tidehub.service")
    here(monkeypatch, v2_machine(made, "/tidehub.slice/tidehub.service", systemd=True))
    assert not systemd.move_to_users_scope("p", os.getpid()), "there is no scope yet, and nobody in it"
    scope = made.root / "tidehub.slice" / "tidehub-p-users.scope"
    made.make(scope)
    # The fake's files appear by its own `make` alone.
    made.make(scope / systemd.HOLDER_LEAF)
    assert systemd.move_to_users_scope("p", 4711)
    assert (scope / systemd.HOLDER_LEAF / "cgroup.procs").read_text().split()[-1] == "4711"


@pytest.mark.parametrize(
    ("group", "lingering", "ends"),
    [
        ("user.slice/user-1000.slice/user@1000.service/app.slice/one.scope", False, True),
        ("user.slice/user-1000.slice/user@1000.service/app.slice/one.scope", True, False),
        ("user.slice/user-1000.slice/session-1.scope", False, False),
        ("system.slice/tidehub.service", False, False),
    ],
)
def test_what_a_logout_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: str, lingering: bool, ends: bool
) -> None:
    monkeypatch.setattr(systemd, "lingers", lambda: lingering)
    machine = v2_machine(tree(tmp_path), f"/{group}", systemd=True, root=False)
    assert systemd.ends_with_logout(machine) is ends


def test_a_systemd_that_refuses_is_no_obstacle(
    tmp_path: Path, fake_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here(monkeypatch, v2_machine(tree(tmp_path, "session-1.scope"), "/session-1.scope", systemd=True))
    monkeypatch.setenv("REFUSE", "1")
    monkeypatch.setattr(os, "execvp", lambda *argv: pytest.fail("started anew"))
    systemd.enter_scope("p")
    systemd.ensure_users_scope("p")
    assert [json.loads(line)[-1] for line in fake_run.read_text().splitlines()] == ["true", "infinity"]


def test_without_systemd_nobody_is_asked(
    tmp_path: Path, fake_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = v2_machine(tree(tmp_path), "/", systemd=False)
    here(monkeypatch, replace(machine))
    systemd.enter_scope("p")
    systemd.ensure_users_scope("p")
    assert not fake_run.exists()
