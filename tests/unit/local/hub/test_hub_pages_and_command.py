from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tidehub.local.hub.server_command import ServerPlace
from tidehub.local.hub.spawn_page import find_profile, options_form, read_form
from tidehub.local.isolation import Person
from tidehub.site.model import Site

SITE = Site.model_validate(
    {
        "site": {"name": "Coast <&> Sea"},
        "login": {"provider": "demo", "allow": {"everyone": True}},
        "notebooks": {
            "profiles": [
                {"name": "Main", "description": "Stable <b>version</b>", "default": True},
                {
                    "name": "Develop",
                    "memory": {"guarantee": 2**30, "limit": 4 * 2**30},
                    "cpu": {"guarantee": 1, "limit": 3},
                },
            ]
        },
    }
)


def test_the_form_shows_every_profile_escaped_with_the_default_selected() -> None:
    html = options_form(SITE)
    assert 'value="main" checked' in html
    assert 'value="develop" required' in html
    assert "Stable &lt;b&gt;version&lt;/b&gt;" in html
    assert "up to 4 GiB memory (1 GiB guaranteed), up to 3 CPU" in html


def test_the_last_choice_is_preselected_and_a_vanished_one_falls_back() -> None:
    assert 'value="develop" checked' in options_form(SITE, "develop")
    assert 'value="main" checked' in options_form(SITE, "gone")


def test_one_profile_needs_no_form() -> None:
    one = SITE.model_copy(
        update={"notebooks": SITE.notebooks.model_copy(update={"profiles": SITE.notebooks.profiles[:1]})}
    )
    assert options_form(one) == ""


def test_an_unknown_profile_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="main, develop"):
        find_profile(SITE, "../etc")
    assert find_profile(SITE, None).slug == "main"


@pytest.mark.parametrize(
    ("form", "options"),
    [({"profile": ["develop"]}, {"profile": "develop"}), ({}, {}), ({"profile": [""]}, {})],
)
def test_the_form_is_read(form: dict[str, list[str]], options: dict[str, str]) -> None:
    assert read_form(form) == options


def test_a_server_has_its_own_directory_and_the_socket_bears_the_port(tmp_path: Path) -> None:
    place = ServerPlace.of(run_dir=tmp_path, logs=tmp_path / "logs", user="alice", server="GPU Lab!")
    assert place.directory == tmp_path / "gpu-lab"
    assert place.socket.name == "nb.sock:80"
    assert place.log == tmp_path / "logs" / "alice-gpu-lab.log"
    default = ServerPlace.of(run_dir=tmp_path, logs=tmp_path / "logs", user="alice", server="")
    assert default.unit == "server-alice-default"


def test_places_are_made_anew_and_private(tmp_path: Path) -> None:
    place = ServerPlace.of(run_dir=tmp_path, logs=tmp_path / "logs", user="alice", server="")
    person = Person(name="alice", uid=70001, gid=70001, home=tmp_path)
    place.prepare(person)
    (place.directory / "nb.sock:80").touch()
    place.prepare(person)
    assert not place.socket.exists()
    assert stat.S_IMODE(place.runtime.stat().st_mode) == 0o700
    assert not place.directory.stat().st_mode & 0o007
