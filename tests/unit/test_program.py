from __future__ import annotations

from pathlib import Path

import pytest

from tidehub import program
from tidehub.program import CHECKOUT, command


def test_an_installed_program_goes_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CHECKOUT, raising=False)
    assert command("down", "--state", Path("/srv/a b")) == "tidehub down --state '/srv/a b'"


def test_the_program_of_a_checkout_goes_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = tmp_path / "check out"
    (checkout / "sub").mkdir(parents=True)
    program = checkout / "tidehub"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv(CHECKOUT, str(checkout))
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.chdir(checkout)
    assert command("up") == "./tidehub up"
    monkeypatch.chdir("/")
    assert command("up") == f"'{program}' up"

    links = tmp_path / "bin"
    links.mkdir()
    (links / "tidehub").symlink_to(program)
    monkeypatch.setenv("PATH", f"{links}:/usr/bin")
    assert command("up") == "tidehub up"


def test_a_daemon_speaks_to_whoever_started_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "_stands", None)
    monkeypatch.setenv(CHECKOUT, str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.chdir(tmp_path)
    program.stay_here()
    monkeypatch.chdir("/")
    assert command("down") == "./tidehub down"


def test_where_the_program_stands_may_be_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setenv(CHECKOUT, "/opt/tidehub-src")
    assert command("up") == "/opt/tidehub-src/tidehub up"
