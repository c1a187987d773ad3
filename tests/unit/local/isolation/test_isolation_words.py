"""Values, messages and the choice of an isolation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tidehub.errors import TidehubError, UsageError
from tidehub.local.isolation import Ending, Ground, LaunchSpec, User, choose_isolation
from tidehub.local.isolation.root import root_refusal

USER = User("alice", 70001, 70001, Path("/homes/alice"))
SPEC = LaunchSpec("lab", USER, ["prog"], {"A": "b"}, Path("/"), Path("/log"))
EVERYTHING = "Name:\tx\nCapEff:\t000001ffffffffff\n"
NO_SETUID = "CapEff:\t000001ffffffff7f\n"
WHOLE_MACHINE = "         0          0 4294967295\n"


@pytest.mark.parametrize(
    ("ending", "status", "words"),
    [
        (Ending(code=0), 0, "finished"),
        (Ending(code=3), 3, "ended with exit code 3"),
        (Ending(signal=15), 143, "stopped by SIGTERM"),
        (Ending(signal=9, out_of_memory=True, limit=3 << 29), 137, "stopped: out of memory (limit 1.5 GiB)"),
        (Ending(out_of_memory=True), 137, "stopped: out of memory"),
        (Ending(), 0, "ended; its exit code is unknown because the platform was restarted meanwhile"),
    ],
)
def test_endings_in_words(ending: Ending, status: int, words: str) -> None:
    assert (ending.status, ending.words()) == (status, words)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ({"argv": []}, "empty command line"),
        ({"argv": ["a\0b"]}, "NUL byte"),
        ({"env": {"A=B": "c"}}, "variable that no environment can hold"),
        ({"env": {"A": "\0"}}, "variable that no environment can hold"),
        ({"cwd": Path("here")}, "relative working directory"),
        ({"log": Path("log")}, "relative log path"),
        ({"name": ""}, "no usable name"),
        ({"parent": "../servers"}, "family"),
    ],
)
def test_specs_that_cannot_start(broken: dict[str, object], says: str) -> None:
    SPEC.check()
    with pytest.raises(TidehubError, match=says):
        replace(SPEC, **broken).check()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "uid_map", "says"),
    [
        (EVERYTHING, WHOLE_MACHINE, ""),
        (NO_SETUID, WHOLE_MACHINE, "this root user lacks CAP_SETUID"),
        ("", WHOLE_MACHINE, "lacks CAP_CHOWN"),
        (EVERYTHING, "0 1000 1\n1 100000 65535\n", "uids 69998-79999 do not exist"),
        (EVERYTHING, "0 1000 1\n1 100000 200000\n", ""),
    ],
)
def test_root_in_name_only(status: str, uid_map: str, says: str) -> None:
    ground = Ground(
        private=Path("/p"), homes=Path("/h"), run=Path("/r"), logs=Path("/l"), log_pipes=Path("/r/logs")
    )
    refusal = root_refusal(ground, status=status, uid_map=uid_map)
    assert refusal == says if not says else says in refusal


def test_an_unknown_isolation_is_a_usage_error(tmp_path: Path) -> None:
    places = SimpleNamespace(
        private=tmp_path, homes=tmp_path, run=tmp_path, logs=tmp_path, log_pipes=tmp_path, platform_id="t"
    )
    with pytest.raises(UsageError, match=r"no isolation 'docker'(.*\n)*.*root or bubblewrap or single"):
        choose_isolation(places, require="docker")


def test_without_sandboxes_one_user_and_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("tidehub.local.isolation.choose.find_cgroups", lambda platform: (None, "none here"))
    places = SimpleNamespace(
        private=tmp_path / "p",
        homes=tmp_path / "h",
        run=tmp_path / "r",
        logs=tmp_path / "l",
        log_pipes=tmp_path / "r" / "logs",
        platform_id="t",
    )
    isolation = choose_isolation(places)
    assert isolation.kind == "single"
    assert "Only one user at a time" in isolation.gaps()[0]
    assert "apt install bubblewrap" in isolation.gaps()[0]
    assert any("none here" in line for line in isolation.gaps())
    with pytest.raises(TidehubError, match=r"not installed(.*\n)*.*apt install bubblewrap"):
        choose_isolation(places, require="bubblewrap")
    with pytest.raises(TidehubError, match="not started as root"):
        choose_isolation(places, require="root")
