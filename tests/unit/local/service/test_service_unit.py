"""The unit's text, and who may have one. What systemd makes of it is in tests/guest."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest

from tidehub.errors import TidehubError, UsageError
from tidehub.local.places import Places
from tidehub.local.service import manager
from tidehub.local.service.installing import Service, program
from tidehub.local.service.manager import Manager
from tidehub.local.service.unit import Unit, quoted, state_of, unit_name
from tidehub.local.software import own
from tidehub.program import CHECKOUT

STATE = Path("/var/lib/tidehub")


def unit(**more: object) -> Unit:
    return Unit(STATE, ["/opt/tidehub/tidehub"], **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "name"),
    [
        ("/var/lib/tidehub", "tidehub.service"),
        ("/srv/my course", "tidehub-srv-my-course.service"),
        ("/srv/é", "tidehub-srv.service"),
        ("/" + "x" * 400, f"tidehub-{'x' * 200}.service"),
    ],
)
def test_each_state_has_a_unit_of_its_own(state: str, name: str) -> None:
    assert unit_name(Path(state), STATE) == name


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("/opt/tidehub", "/opt/tidehub"),
        ("a b", '"a b"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("100%n", "100%%n"),
        ("notebooks.memory.limit='8 GiB'", "\"notebooks.memory.limit='8 GiB'\""),
        ("", '""'),
        (";", '";"'),
    ],
)
def test_nothing_in_a_word_is_split_or_expanded(word: str, written: str) -> None:
    assert quoted(word) == written


@pytest.mark.parametrize("word", ["a\nExecStartPre=/bin/false", "a\0b", "a\x1bb"])
def test_no_word_adds_a_line(word: str) -> None:
    with pytest.raises(UsageError, match="a systemd unit cannot hold"):
        quoted(word)
    with pytest.raises(UsageError, match="a systemd unit cannot hold"):
        Unit(Path(f"/srv/{word}"), ["/x"]).text()


def test_a_variable_is_expanded_in_arguments_alone() -> None:
    text = Unit(Path("/srv/$HOME"), ["/x"], environment={"TIDEHUB_SOFTWARE": "/opt/$x"}).text()
    assert 'ExecStart=/x up --state "/srv/$$HOME"' in text
    assert 'ExecReload=/x reload --state "/srv/$$HOME"' in text
    assert 'Environment="TIDEHUB_SOFTWARE=/opt/$x"' in text
    assert 'RequiresMountsFor="/srv/$HOME"' in text


def test_the_state_is_read_back() -> None:
    assert state_of(unit().text()) == str(STATE)
    assert state_of("[Unit]\nDescription=another's\n") is None


@pytest.mark.parametrize("of_user", [False, True])
def test_systemd_reads_it_without_a_complaint(tmp_path: Path, of_user: bool) -> None:
    """Where the program is there; the guests' systemd reads it too."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    program = tmp_path / "tide hub"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    file = tmp_path / "tidehub.service"
    file.write_text(Unit(tmp_path, [str(program)], ["--set", "a=$b %n"], of_user=of_user).text())
    done = subprocess.run(
        ["systemd-analyze", "verify", *(["--user"] if of_user else []), str(file)],
        capture_output=True,
        text=True,
    )
    assert str(file) not in done.stderr, done.stderr


def test_without_systemd_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(manager, "_BOOTED", tmp_path / "no")
    with pytest.raises(TidehubError, match="systemd does not run on this machine"):
        Manager.here(of_user=False)


@pytest.mark.parametrize(
    ("uid", "of_user", "words"),
    [(1000, False, "only root may install"), (0, True, "a service of root is a system service")],
)
def test_the_wrong_user_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, uid: int, of_user: bool, words: str
) -> None:
    monkeypatch.setattr(manager, "_BOOTED", tmp_path)
    monkeypatch.setattr(manager.shutil, "which", lambda name: "/bin/systemctl")
    monkeypatch.setattr(manager.os, "geteuid", lambda: uid)
    with pytest.raises(UsageError, match=words):
        Manager.here(of_user=of_user)


class Recorded(Manager):
    """Notes what would be asked of systemd."""

    asked: ClassVar[list[tuple[str, ...]]] = []

    def call(self, *words: str, seconds: float = 0, check: bool = True) -> str:
        self.asked.append(words)
        return "NeedDaemonReload=no" if words[0] == "show" else ""


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setattr(Recorded, "asked", [])
    monkeypatch.setenv("TIDEHUB_SOFTWARE", "/opt/software")
    monkeypatch.setenv("TIDEHUB_SECRET_CLIENT_SECRET", "very secret")
    monkeypatch.setenv(CHECKOUT, str(Path(__file__).resolve().parents[4]))
    return Service(Recorded(True, tmp_path / "config" / "systemd" / "user"), Places(tmp_path / "state"))


def test_it_is_written_once_and_removed_alone(service: Service) -> None:
    assert service.install(["--port", "8001"], [])
    text = service.file.read_text()
    assert "--port 8001" in text and "Environment=TIDEHUB_SOFTWARE=/opt/software" in text
    assert "very secret" not in text
    assert service.file.stat().st_mode & 0o777 == 0o644
    assert ("daemon-reload",) in Recorded.asked
    assert not service.install(["--port", "8001"], []), "nothing changed"
    beside = service.file.with_name("another.service")
    beside.write_text("")
    Recorded.asked.clear()
    assert service.remove()
    assert [words[0] for words in Recorded.asked] == ["stop", "disable", "daemon-reload", "reset-failed"]
    assert not service.file.exists() and beside.exists()
    assert not service.remove(), "there is none"


@pytest.mark.parametrize(
    "text", ["[Service]\nExecStart=/bin/true\n", Unit(Path("/srv/other"), ["/x"]).text()]
)
def test_a_unit_of_another_is_left_alone(service: Service, text: str) -> None:
    service.file.parent.mkdir(parents=True)
    service.file.write_text(text)
    for change in (service.remove, lambda: service.install([], [])):
        with pytest.raises(TidehubError, match=r"was not written by|is that of /srv/other"):
            change()
    assert service.file.read_text() == text and Recorded.asked == []


def test_a_checkouts_program_is_named_not_its_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    monkeypatch.setenv(CHECKOUT, str(checkout))
    monkeypatch.setattr(own, "dependencies", lambda: tmp_path)
    with pytest.raises(UsageError, match="not started by the program of its checkout"):
        program()
    (checkout / "tidehub").write_text("#!/bin/sh\n")
    (checkout / "tidehub").chmod(0o755)
    assert program() == [str(checkout / "tidehub")]
    monkeypatch.setattr(own, "dependencies", lambda: None)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert program() == [sys.executable, "-I", "-m", "tidehub"]
    (tmp_path / "bin").mkdir()
    shutil.copy(checkout / "tidehub", tmp_path / "bin" / "tidehub")
    assert program() == [str(tmp_path / "bin" / "tidehub")]
