"""`service ... --json`: the unit is written for real, and a stand-in answers for systemd; guests have the real one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tidehub.cli import main
from tidehub.local.service import installing
from tidehub.local.service.manager import Manager

SYSTEMCTL = """#!/bin/sh
[ "$2" = show ] || exit 0
printf '%s\\n' UnitFileState=disabled ActiveState=inactive SubState=dead StatusText= NeedDaemonReload=no
"""


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "systemctl").write_text(SYSTEMCTL)
    (programs / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setattr(Manager, "here", lambda of_user: Manager(of_user, tmp_path / "units"))
    monkeypatch.setattr(installing, "program", lambda: ["/usr/bin/env", "tidehub"])
    monkeypatch.chdir(tmp_path)
    return tmp_path / "units"


def test_what_was_installed_shown_and_removed_is_said_to_a_program(
    units: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*words: str, code: int = 0) -> Any:
        assert main.run(["service", *words, "--state", str(tmp_path / "state"), "--json"]) == code
        return json.loads(capsys.readouterr().out)

    assert told("show", code=1) | {"file": "", "name": "", "state": ""} == {
        "ok": False, "installed": False, "name": "", "file": "", "state": "", "unit": None, "active": None,
        "substate": None, "at_boot": None, "status": None, "warnings": [],
    }  # fmt: skip
    made = told("install", "--built-in")
    assert (made["ok"], made["installed"], made["changed"]) == (True, True, True)
    assert Path(made["file"]).read_text() == made["unit"] and "Type=notify" in made["unit"]
    assert made["starts_with"].startswith("systemctl enable --now tidehub")
    shown = told("show")
    assert (shown["active"], shown["at_boot"], shown["unit"]) == ("inactive", "disabled", made["unit"])
    assert told("install", "--built-in")["changed"] is False
    assert told("remove")["removed"] is True and not list(units.glob("*.service"))
    assert told("remove")["removed"] is False
