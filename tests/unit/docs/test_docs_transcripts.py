"""The transcripts of docs/how-to/check-a-site.md are what the commands print today."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidehub.cli import main

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "how-to" / "check-a-site.md").read_text(encoding="utf-8")


def transcripts() -> Iterator[tuple[str, str]]:
    """Commands on the example and what the page says they print; other commands have files that are not here."""
    for block in re.findall(r"```console\n(.*?)```", PAGE, flags=re.DOTALL):
        command, _, printed = block.removeprefix("$ ").partition("\n")
        if "examples/" in command and printed:
            yield command, printed


@pytest.mark.parametrize(("command", "printed"), list(transcripts()), ids=[name for name, _ in transcripts()])
def test_a_transcript_is_current(
    command: str, printed: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = shlex.split(command)
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        monkeypatch.setenv(name, value)
    assert words.pop(0) == "tidehub"
    monkeypatch.chdir(ROOT)
    main.run(words)
    told = capsys.readouterr().out
    if printed.endswith("\n...\n"):
        assert told.startswith(printed.removesuffix("...\n"))
    else:
        assert told == printed


def test_there_are_transcripts() -> None:
    assert len(list(transcripts())) >= 6
