"""What another program is told that takes the place of a running supervisor, and what is gone back to."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tidehub.errors import TidehubError
from tidehub.local.places import Places
from tidehub.local.supervisor.changing import SUCCEEDS, Successor, change, read_former
from tidehub.local.supervisor.platform import UpOptions

SERVES = {"site": {"site": {"name": "x"}}, "options": {"port": 8000}}


@pytest.fixture
def places(tmp_path: Path) -> Places:
    found = Places(tmp_path / "state")
    found.private.mkdir(parents=True)
    return found


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"argv": [], "env": {}},
        {"argv": "/bin/true", "env": {}},
        {"argv": ["/bin/true", 1], "env": {}},
        {"argv": ["/bin/true", "a\0b"], "env": {}},
        {"argv": ["/bin/true"], "env": {"A": 1}},
        {"argv": ["/bin/true"], "env": ["A"]},
        {"argv": ["bin/true"], "env": {}},
        {"argv": ["/nonexistent/tidehub"], "env": {}},
    ],
)
def test_nothing_is_stopped_for_what_could_not_be_started(request_: dict[str, Any]) -> None:
    with pytest.raises(TidehubError):
        Successor.of(request_)


def test_what_is_served_is_written_down_privately_before_anything_stops(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Successor.of({"argv": ["/bin/true"], "env": {"A": "b"}}).with_former(places, SERVES)
    assert found.env == {"A": "b", SUCCEEDS: "1"}
    assert places.former.stat().st_mode & 0o777 == 0o600
    assert read_former(places) == SERVES
    monkeypatch.setenv(SUCCEEDS, "1")
    former = Successor.former(places)
    assert former is not None
    assert list(former.argv) == [sys.executable, "-I", "-m", "tidehub.local.former", str(places.state)]
    assert SUCCEEDS not in os.environ, "what is gone back to has nothing to go back to"
    assert Successor.former(places) is None


def test_a_plain_start_goes_back_to_nothing(places: Places) -> None:
    Successor.of({"argv": ["/bin/true"], "env": {}}).with_former(places, SERVES)
    assert Successor.former(places) is None


@pytest.mark.parametrize("text", ["", "[", "[]", '{"serves": 1}', '{"argv": ["/bin/true"], "env": {}}'])
def test_a_damaged_record_is_said(places: Places, text: str) -> None:
    places.former.write_text(text)
    with pytest.raises(TidehubError, match="former"):
        read_former(places)


def test_a_successor_that_is_gone_after_all_is_an_error_and_no_traceback(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/nonexistent/interpreter\n")
    program.chmod(0o755)
    with pytest.raises(TidehubError, match="cannot be started"):
        Successor.of({"argv": [str(program)], "env": {}}).become()


def test_options_that_are_not_given_stay() -> None:
    before = UpOptions(site_file=Path("/a.yaml"), port=8001, demo_login=True, settings=(("site.name", "x"),))
    assert UpOptions().over(before) == before
    given = UpOptions(site_file=Path("/b.yaml"), fit=True, port=0, settings=(("site.name", "y"),))
    assert given.over(before) == UpOptions(
        site_file=Path("/b.yaml"), port=0, demo_login=True, fit=True, settings=(("site.name", "y"),)
    )


def test_options_pass_through_json_and_the_command_line() -> None:
    import json

    from tidehub.cli.site_options import settings_of

    options = UpOptions(
        site_file=Path("/a.yaml"), port=8001, demo_login=True, demo_login_on_public_address=True, fit=True,
        settings=(("login.admins.users", ["a", "b: c"]), ("notebooks.memory.limit", "3 GiB"), ("site.contact", None)),
    )  # fmt: skip
    assert UpOptions.from_json(json.loads(json.dumps(options.to_json()))) == options
    words = options.words()
    assert words[:4] == ["--site", "/a.yaml", "--port", "8001"]
    assert {"--demo-login", "--demo-login-on-public-address", "--fit"} <= set(words)
    assert (
        settings_of([words[at + 1] for at, word in enumerate(words) if word == "--set"]) == options.settings
    )
    assert UpOptions().words() == ["--built-in"]  # whatever file is where the program starts


class Parts:
    """Stands for the supervisor: the first change of parts fails, as on a disk that is full by now."""

    def __init__(self) -> None:
        self.renewed: list[tuple[object, tuple[str, ...]]] = []

    def parts(self) -> list[Any]:
        return [SimpleNamespace(name="hub")]

    def changed_by(self, components: object, named: object) -> list[str]:
        return ["hub"]

    def leaving_children(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    async def renew(self, components: object, names: Any, **more: object) -> None:
        self.renewed.append((components, tuple(names)))
        if len(self.renewed) == 1:
            raise TidehubError("hub does not start: No space left on device")


async def test_what_was_stopped_runs_again_also_where_nothing_can_be_written_back() -> None:
    before, after = ([SimpleNamespace(name="hub", of=of)] for of in ("before", "after"))

    def again(serves: Any, say: object) -> Any:
        if serves == {"site": "before"}:
            raise TidehubError("cannot write hub.json: No space left on device")
        return SimpleNamespace(components=after, secrets=())

    platform: Any = SimpleNamespace(components=before, serves={"site": "before"}, again=again)
    parts: Any = Parts()
    said: list[str] = []
    with pytest.raises(TidehubError, match="hub does not start"):
        await change(platform, parts, {"serves": {"site": "after"}}, tell=said.append, progress=said.append)
    assert parts.renewed == [(after, ("hub",)), (before, ("hub",))]
    assert "cannot write hub.json" in said[-1]
