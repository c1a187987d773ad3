from __future__ import annotations

from pathlib import Path

import pytest

from tidehub.errors import TidehubError
from tidehub.local.places import Places
from tidehub.local.supervisor.platform import Platform, Say
from tidehub.local.supervisor.session import run


class Heard:
    def __init__(self) -> None:
        self.said: list[str] = []
        self.step = self.done = self.note = self.warn = self.said.append


def test_what_is_said_stays_in_the_log_for_a_platform_without_terminal(tmp_path: Path) -> None:
    places = Places(tmp_path / "state")
    for directory in (places.private, places.logs):
        directory.mkdir(parents=True)
    heard = Heard()

    def prepare(say: Say) -> Platform:
        say.warn("the certificate in use stays")
        say.note("sizes were shrunk")
        raise TidehubError("enough")

    with pytest.raises(TidehubError, match="enough"):
        run(places, prepare, heard, lambda platform: None)
    log = places.supervisor_log.read_text()
    assert "warning: the certificate in use stays" in log
    assert "sizes were shrunk" in log
    assert heard.said == ["the certificate in use stays", "sizes were shrunk"]
