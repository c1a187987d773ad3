"""What a bubblewrap command line shows and hides."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidehub.local.isolation.bubblewrap import explain
from tidehub.local.isolation.sandbox import View, outermost, sandbox_argv, visible

STATE = Path("/srv/state")
SERVER = Path("/srv/run/u/70001/default")
HIDDEN = (STATE / "private", STATE / "homes", Path("/srv/run/u"))


def view(**changes: object) -> View:
    plain: dict[str, object] = {
        "home": STATE / "homes/alice",
        "run": SERVER.parent,
        "temporary": STATE / "homes/.tmp/alice",
        "cwd": STATE / "homes/alice",
        "hidden": HIDDEN,
        "writable": (SERVER,),
    }
    return View(**{**plain, **changes})  # type: ignore[arg-type]


def mounts(argv: list[str]) -> list[tuple[str, str]]:
    """(kind, place inside) of every mount, in order."""
    found = []
    for at, word in enumerate(argv[: argv.index("--")]):
        if word in ("--bind", "--ro-bind", "--ro-bind-try", "--symlink", "--ro-bind-data"):
            found.append((word, argv[at + 2]))
        elif word in ("--tmpfs", "--proc", "--dev", "--remount-ro"):
            found.append((word, argv[at + 1]))
    return found


def test_only_the_own_places_are_writable() -> None:
    found = mounts(sandbox_argv("bwrap", view(), ["prog"]))
    assert [place for kind, place in found if kind == "--bind"] == [
        "/tmp",
        "/var/tmp",
        "/srv/state/homes/alice",
        str(SERVER),
    ]
    assert ("--proc", "/proc") in found and ("--dev", "/dev") in found
    assert found[-1] == ("--remount-ro", "/")


def test_nothing_of_the_state_but_the_own_home() -> None:
    argv = sandbox_argv("bwrap", view(), ["prog"])
    assert not any("private" in word for word in argv)
    places = [place for _, place in mounts(argv)]
    assert not {"/", "/srv", "/srv/state", "/srv/state/homes", "/home", "/root", "/etc", "/run"} & (
        set(places) - {"/"}
    )
    assert not {"/etc/shadow", "/etc/ssh", "/etc/sudoers"} & set(places)


def test_namespaces_and_what_is_left_out() -> None:
    argv = sandbox_argv("/x/bwrap", view(), ["prog", "--unshare-net"])
    options = argv[: argv.index("--")]
    assert argv[0] == "/x/bwrap"
    assert {"--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts"} <= set(options)
    assert not {"--die-with-parent", "--unshare-net", "--share-net", "--json-status-fd", "--setenv"} & set(
        options
    )
    assert options[options.index("--info-fd") + 1] == "5"
    assert options[options.index("--chdir") + 1] == "/srv/state/homes/alice"
    assert argv[-2:] == ["prog", "--unshare-net"]


def test_what_is_shown_never_uncovers_what_is_hidden() -> None:
    found = mounts(sandbox_argv("bwrap", view(readable=(Path("/srv"),)), ["prog"]))
    srv = found.index(("--ro-bind", "/srv"))
    for hidden in HIDDEN:
        assert found.index(("--tmpfs", str(hidden))) > srv
    assert found.index(("--bind", "/srv/state/homes/alice")) > found.index(("--tmpfs", "/srv/state/homes"))
    assert found.index(("--bind", str(SERVER))) > found.index(("--ro-bind-try", "/srv/run/u/70001"))
    assert found.index(("--ro-bind-try", "/srv/run/u/70001")) > found.index(("--tmpfs", "/srv/run/u"))


def test_parents_are_mounted_first() -> None:
    readable = (Path("/opt/env/sub"), Path("/opt/env"), Path("/opt/env"))
    assert outermost(readable) == [Path("/opt/env"), Path("/opt/env/sub")]
    found = mounts(
        sandbox_argv("bwrap", view(readable=readable, writable=(Path("/opt/env/data"),)), ["prog"])
    )
    order = [place for kind, place in found if place.startswith("/opt") and kind in ("--ro-bind", "--bind")]
    assert order == ["/opt/env", "/opt/env/sub", "/opt/env/data"]


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/srv/state/homes/alice/x", True),
        ("/usr/share", True),
        ("/tmp", True),
        ("/srv/state/homes/bob", False),
        ("/root", False),
        ("/opt/env/bin", True),
    ],
)
def test_visible(path: str, seen: bool) -> None:
    assert visible(Path(path), view(readable=(Path("/opt/env"),))) is seen


@pytest.mark.parametrize(
    ("settings", "what", "fix"),
    [
        ({"kernel/apparmor_restrict_unprivileged_userns": "1"}, "AppArmor", "bwrap-userns-restrict"),
        ({"kernel/unprivileged_userns_clone": "0"}, "only root", "kernel.unprivileged_userns_clone=1"),
        ({"user/max_user_namespaces": "0"}, "set to 0", "user.max_user_namespaces"),
        ({}, "Operation not permitted", "container"),
    ],
)
def test_a_failed_trial_names_the_remedy(settings: dict[str, str], what: str, fix: str) -> None:
    found = explain("bwrap: setting up uid map: Operation not permitted", lambda name: settings.get(name, ""))
    assert what in found.what and fix in found.fix
