from __future__ import annotations

import re
from pathlib import Path

import pytest

from tidehub.errors import TidehubError
from tidehub.local.hub.roles import server_scopes
from tidehub.local.hub.server_command import ServerPlace, activity_interval, server_directory_name
from tidehub.local.hub.spawn_page import (
    clean_up_form,
    find_server,
    nothing_to_start,
    options_form,
    read_form,
)
from tidehub.local.hub.spawner_words import failure_words
from tidehub.local.isolation import User
from tidehub.login.entitled import entitled
from tidehub.site.end_words import end_words
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


EVERYBODY = entitled(SITE, "ann", [])


def test_the_form_shows_every_profile_escaped_with_the_default_selected() -> None:
    html = options_form(EVERYBODY)
    assert 'value="main" checked' in html
    assert 'value="develop" required' in html
    assert "Stable &lt;b&gt;version&lt;/b&gt;" in html
    assert "up to 4 GiB memory (1 GiB guaranteed), up to 3 CPU" in html


def test_the_last_choice_is_preselected_and_a_vanished_one_falls_back() -> None:
    assert 'value="develop" checked' in options_form(EVERYBODY, "develop")
    assert 'value="main" checked' in options_form(EVERYBODY, "gone")


def test_one_profile_needs_no_form() -> None:
    one = SITE.model_copy(
        update={"notebooks": SITE.notebooks.model_copy(update={"profiles": SITE.notebooks.profiles[:1]})}
    )
    assert options_form(entitled(one, "ann", [])) == ""
    # The hub would start the last choice again, which is refused: the form must ask anew.
    assert 'value="main" checked' in options_form(entitled(one, "ann", []), "develop")


def test_who_is_refused_gets_a_form_for_freeing_space_also_where_there_is_nothing_to_choose() -> None:
    one = SITE.model_copy(
        update={"notebooks": SITE.notebooks.model_copy(update={"profiles": SITE.notebooks.profiles[:1]})}
    )
    html = clean_up_form(entitled(one, "ann", []), "Your files take <11> GiB.")
    assert (
        "&lt;11&gt;" in html and "Start a server for freeing space" in html and 'value="main" checked' in html
    )
    assert '<input type="hidden" name="free_space" value="yes">' in html
    assert read_form({"profile": ["main"], "free_space": ["yes"]}) == {"profile": "main", "free_space": True}
    assert "free_space" not in read_form({"profile": ["main"]})


def test_an_unknown_profile_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="main, develop"):
        find_server(EVERYBODY, "../etc")
    assert find_server(EVERYBODY, None).profile.slug == "main"


VO = "urn:mace:egi.eu:group:vo.example.eu"
HIDDEN = Site.model_validate(
    {
        "site": {"name": "Coast", "contact": "help@example.org"},
        "login": {"provider": "demo", "allow": {"everyone": True}},
        "notebooks": {
            "profiles": [
                {"name": "Secret GPU", "default": True, "allow": {"groups": [f"{VO}:role=gpu"]}},
                {"name": "Main", "allow": {"groups": [VO], "users": ["bob"]}},
            ]
        },
    }
)


def test_what_others_may_start_is_neither_shown_nor_named() -> None:
    member = entitled(HIDDEN, "ann", [f"{VO}:role=member"])
    assert find_server(member, None).profile.slug == "main"
    form = options_form(member, "secret-gpu")
    assert 'value="main" checked' in form
    assert "ecret" not in form
    words = []
    for slug in ("secret-gpu", "none-such"):
        with pytest.raises(ValueError, match=r"possible: main$") as refused:
            find_server(member, slug)
        words.append(str(refused.value).replace(slug, "..."))
    assert words[0] == words[1]


def test_who_may_start_nothing_is_told_so_without_names() -> None:
    nobody = entitled(HIDDEN, "eve", ["urn:mace:egi.eu:group:vo.evil.eu"])
    with pytest.raises(ValueError, match="no environment here is open"):
        find_server(nobody, "main")
    assert nothing_to_start(HIDDEN).endswith("Questions: help@example.org")
    assert "Secret" not in nothing_to_start(HIDDEN)


def test_only_who_may_use_dask_has_a_token_for_it() -> None:
    scope = "access:services!service=dask-gateway"
    assert scope in server_scopes(with_dask=True)
    assert server_scopes(with_dask=False) == ["users:activity!user", "access:servers!server"]


@pytest.mark.parametrize(
    ("form", "options"),
    [({"profile": ["develop"]}, {"profile": "develop"}), ({}, {}), ({"profile": [""]}, {})],
)
def test_the_form_is_read(form: dict[str, list[str]], options: dict[str, str]) -> None:
    assert read_form(form) == options


def place_of(server: str) -> ServerPlace:
    alice = User(name="alice", uid=70001, gid=70001, home=Path("/srv/homes/alice"))
    return ServerPlace.of(user=alice, run_dir=Path("/run/x"), logs=Path("/logs"), server=server)


def test_a_server_has_its_own_directory_and_the_socket_bears_the_port() -> None:
    place = place_of("gpu-lab")
    assert place.directory == Path("/run/x/gpu-lab")
    assert place.socket.name == "nb.sock:80" and place.runtime == place.directory / "rt"
    assert place.log == Path("/logs/alice/gpu-lab.log")
    assert place_of("").unit == "server-alice-default"


def test_no_two_servers_of_a_user_share_a_directory() -> None:
    names = ["", "default", "GPU Lab!", "gpu lab!", "gpu-lab-", "gpu-lab", "experiment-number-1", "experiment-number-2",
             "é", "è", "..", ".", "/", "a" * 12, "a" * 13, "a" * 255]  # fmt: skip
    directories = [server_directory_name(name) for name in names]
    assert len(set(directories)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name) and len(name) <= 12 for name in directories)


@pytest.mark.parametrize(
    ("idle_timeout", "interval"), [(3600.0, 300), (0.0, 300), (120.0, 30), (30.0, 7), (1.0, 1)]
)
def test_activity_is_reported_well_within_the_idle_timeout(idle_timeout: float, interval: int) -> None:
    assert activity_interval(idle_timeout, 300) == interval


def test_a_refused_start_is_told_in_one_line() -> None:
    error = TidehubError("'ann' is at work", expected="'ann' stops first", fix="install bubblewrap")
    assert failure_words(error) == "'ann' is at work. Expected: 'ann' stops first. install bubblewrap."
    assert failure_words(TidehubError("no")) == "no."


def test_the_home_page_says_when_a_server_is_stopped_by_itself() -> None:
    assert end_words(0, 0) == ""
    assert end_words(3600, 0).startswith(
        "A server that is idle for 1 h is stopped. A running cell keeps it alive"
    )
    assert end_words(0, 86400) == "After 1 d a server is stopped in any case. Files stay."


def test_a_server_without_own_packages_is_asked_for_in_the_form_and_told_to_the_server() -> None:
    assert 'name="without_packages"' in options_form(EVERYBODY)
    assert read_form({"without_packages": ["yes"]}) == {"without_packages": True}
    assert "without_packages" not in read_form({"profile": ["main"]})
