"""What was served last is named in hints, and never replaced by a site that nobody named."""

from __future__ import annotations

import shlex
import stat
from pathlib import Path

import pytest

from tidehub.cli import main
from tidehub.errors import TidehubError
from tidehub.local.places import Places
from tidehub.local.supervisor import last_up
from tidehub.local.supervisor.platform import UpOptions
from tidehub.local.supervisor.status import platform_status, status_lines

OPTIONS = UpOptions(
    site_file=Path("/srv/my site/tidehub.yaml"),
    port=8010,
    demo_login=True,
    fit=True,
    settings=(("site.name", "Coast & Sea"),),
)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    made = Places.of(tmp_path / "state").ensure(other_users=False)
    made.secrets.write_text("{}")
    return made


def served(places: Places, options: UpOptions) -> None:
    last_up.remember(places, {"options": options.to_json()})


def test_the_command_that_serves_the_same_again_can_be_pasted(places: Places) -> None:
    served(places, OPTIONS)
    assert last_up.last_options(places) == OPTIONS
    assert stat.S_IMODE(places.last_up.stat().st_mode) == 0o600
    words = shlex.split(last_up.up_again(places, last_up.last_options(places)))
    assert words[1:] == ["up", *OPTIONS.words(), "--state", str(places.state)]
    assert words[3] == "/srv/my site/tidehub.yaml"


def test_status_names_what_ran(places: Places) -> None:
    served(places, OPTIONS)
    (line,) = status_lines(platform_status(places))
    assert "--site '/srv/my site/tidehub.yaml' --port 8010 --demo-login --fit" in line


@pytest.mark.parametrize("text", ["", "[]", "{", '{"nonsense": 1}', '{"settings": 7}'])
def test_what_cannot_be_read_is_no_obstacle(places: Places, text: str) -> None:
    places.last_up.write_text(text)
    assert last_up.last_options(places) is None
    last_up.refuse_to_guess(places)
    assert str(places.state) in status_lines(platform_status(places))[0]


def test_a_platform_without_options_leaves_what_was_kept(places: Places) -> None:
    served(places, OPTIONS)
    last_up.remember(places, {})
    assert last_up.last_options(places) == OPTIONS


def test_an_up_that_names_nothing_does_not_replace_a_site(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TIDEHUB_SITE", raising=False)
    served(places, OPTIONS)
    assert main.run(["up", "--detach", "--state", str(places.state)]) == 1
    told = capsys.readouterr().err
    assert "/srv/my site/tidehub.yaml when it ran last" in told and "--built-in" in told
    assert "--demo-login --fit" in told


def test_the_small_site_needs_no_name(places: Places) -> None:
    last_up.refuse_to_guess(places)
    served(places, UpOptions(port=8010))
    last_up.refuse_to_guess(places)
    assert last_up.up_again(places, UpOptions()).endswith(f"up --state {places.state}")
    with pytest.raises(TidehubError, match="no site is named now"):
        served(places, OPTIONS)
        last_up.refuse_to_guess(places)
