"""The page on who may enter: its site is valid, and its transcripts are what the command prints today."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tidehub.cli.main import run

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "how-to" / "who-may-enter.md").read_text("utf-8")
TRANSCRIPTS = re.findall(r"```console\n\$ tidehub (explain-login --claims \S+)\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert site is not None
    (tmp_path / "tidehub.yaml").write_text(site[1], encoding="utf-8")
    for name, claims in re.findall(r"`(\w+\.json)`[^`]*```json\n(.*?)```", PAGE, re.DOTALL):
        (tmp_path / name).write_text(claims, encoding="utf-8")
    monkeypatch.chdir(tmp_path)


def test_the_site_of_the_page_is_well(there: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["validate"]) == 0
    assert capsys.readouterr().out == "tidehub.yaml is valid: no errors, no warnings\n"


@pytest.mark.parametrize(("command", "printed"), TRANSCRIPTS, ids=[command for command, _ in TRANSCRIPTS])
def test_a_transcript_is_current(
    there: None, command: str, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command.split()) == (0 if printed.startswith("ADMITTED") else 1)
    assert capsys.readouterr().out == printed


def test_there_is_one_of_each() -> None:
    assert [printed.split(":")[0] for _, printed in TRANSCRIPTS] == ["ADMITTED", "REFUSED"]
