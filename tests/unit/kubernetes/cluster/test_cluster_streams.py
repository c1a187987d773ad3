from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stub_api import CUT, Reply, Request, StubApi, refusal

from tidehub.kubernetes.cluster import streams, transport
from tidehub.kubernetes.cluster.port import ClusterProblem

MAPS = "/api/v1/namespaces/n/configmaps"
LOG = "/api/v1/namespaces/n/pods/p/log"
V4, V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"
Start = Callable[..., StubApi]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts a server with a script."""
    monkeypatch.setattr(transport, "_PAUSES", (0.01, 0.01, 0.01))
    monkeypatch.setattr(streams, "_PAUSE", 0.01)
    started: list[StubApi] = []

    def go(script: Any = lambda request: None, *rest: Any) -> StubApi:
        started.append(StubApi(script, *rest))
        return started[-1]

    yield go
    for one in started:
        one.stop()


def _map(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": name, "resourceVersion": str(version)}}


def _event(kind: str, name: str, version: int) -> dict[str, Any]:
    return {"type": kind, "object": _map(name, version)}


def _watching(lists: list[list[Any]], connections: list[list[Any]]) -> Callable[[Request], Any]:
    """Answers lists and watches in turn; a watch without an answer stays silent until the end."""
    begun: list[str] = []

    def answer(request: Request) -> Any:
        if request.path != MAPS:
            return None
        if "watch" not in request.query:
            number = sum(1 for one in begun if one == "list")
            begun.append("list")
            return Reply(body={"metadata": {"resourceVersion": "10"}, "items": lists[number]})
        number = sum(1 for one in begun if one != "list")
        begun.append(request.query["resourceVersion"])
        parts = connections[number] if number < len(connections) else [_event("BOOKMARK", "", 99)]
        return Reply(parts=parts, pause=0.0 if number < len(connections) else 5)

    answer.begun = begun  # type: ignore[attr-defined]
    return answer


def _told(api: StubApi, folder: Path, count: int) -> list[tuple[str, str]]:
    told: list[tuple[str, str]] = []
    for event in api.connect(folder).watch("v1", "ConfigMap", "n", seconds=10):
        told.append((event.kind, event.obj["metadata"]["name"]))
        if len(told) == count:
            break
    return told


def test_a_watch_that_is_cut_goes_on_where_it_was(start: Start, tmp_path: Path) -> None:
    script = _watching([[_map("a", 3)]], [[_event("ADDED", "b", 11), CUT], [_event("MODIFIED", "a", 12)]])
    assert _told(start(script), tmp_path, 3) == [("ADDED", "a"), ("ADDED", "b"), ("MODIFIED", "a")]
    assert script.begun[:3] == ["list", "10", "11"]  # type: ignore[attr-defined]


def test_a_watch_that_is_too_old_tells_the_difference(start: Start, tmp_path: Path) -> None:
    gone = {"type": "ERROR", "object": refusal(410, "Expired", "too old resource version")}
    lists = [
        [_map("kept", 1), _map("changed", 2), _map("gone", 3)],
        [_map("kept", 1), _map("changed", 7), _map("new", 8)],
    ]
    told = _told(start(_watching(lists, [[gone]])), tmp_path, 6)
    assert told[3:] == [("DELETED", "gone"), ("MODIFIED", "changed"), ("ADDED", "new")]


def test_a_watch_whose_line_is_cut_in_the_middle_goes_on(start: Start, tmp_path: Path) -> None:
    half = json.dumps(_event("ADDED", "b", 11)).encode()[:20]
    script = _watching([[]], [[half, CUT], [_event("ADDED", "b", 11)]])
    assert _told(start(script), tmp_path, 1) == [("ADDED", "b")]


def test_bookmarks_are_not_told_and_count(start: Start, tmp_path: Path) -> None:
    script = _watching([[]], [[_event("BOOKMARK", "", 50)], [_event("ADDED", "b", 51)]])
    assert _told(start(script), tmp_path, 1) == [("ADDED", "b")]
    assert script.begun == ["list", "10", "50"]  # type: ignore[attr-defined]


def test_a_watch_that_is_not_allowed_says_so(start: Start, tmp_path: Path) -> None:
    def script(request: Request) -> Any:
        if request.path == MAPS and "watch" in request.query:
            return Reply(403, refusal(403, "Forbidden", 'User "x" cannot watch resource "configmaps"'))
        return (
            Reply(body={"metadata": {"resourceVersion": "1"}, "items": []}) if request.path == MAPS else None
        )

    with pytest.raises(ClusterProblem, match="cannot watch"):
        _told(start(script), tmp_path, 1)


def test_a_watch_bears_no_endless_outage(start: Start, tmp_path: Path) -> None:
    def script(request: Request) -> Any:
        if request.path == MAPS and "watch" in request.query:
            return CUT
        return (
            Reply(body={"metadata": {"resourceVersion": "1"}, "items": []}) if request.path == MAPS else None
        )

    connected = start(script).connect(tmp_path, seconds=0.5)
    with pytest.raises(ClusterProblem) as raised:
        list(connected.watch("v1", "ConfigMap", "n", seconds=30))
    assert raised.value.reason == "unreachable"


def test_a_followed_log_loses_and_repeats_nothing(start: Start, tmp_path: Path) -> None:
    stamps = [f"2026-11-22T09:00:0{number}.{number}00000000Z" for number in range(4)]
    first = "".join(f"{stamp} line {number}\n" for number, stamp in enumerate(stamps[:3])).encode()
    # The server begins at a whole second, so the last line comes again.
    second = f"{stamps[2]} line 2\n{stamps[3]} line 3\n".encode()

    def script(request: Request) -> Any:
        if request.path != LOG:
            return None
        return Reply(parts=[first, CUT]) if request.count == 0 else Reply(parts=[second])

    api = start(script)
    lines = list(api.connect(tmp_path).logs("p", "n", follow=True, tail=3))
    assert lines == ["line 0", "line 1", "line 2", "line 3"]
    asked = [one.query for one in api.requests if one.path == LOG]
    assert asked[0]["tailLines"] == "3"
    assert asked[1]["sinceTime"] == "2026-11-22T09:00:02Z"
    assert "tailLines" not in asked[1]


def _exit(code: int) -> bytes:
    causes = [{"reason": "ExitCode", "message": str(code)}]
    status = {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}
    return b"\x03" + json.dumps(status if code else {"status": "Success"}).encode()


def _sorter(socket: Any, got: list[bytes]) -> None:
    """A program that reads its input to the end, and then writes its length."""
    if got and got[-1] == b"\xff\x00":
        data = b"".join(one[1:] for one in got if one[:1] == b"\x00")
        socket.write_message(b"\x01" + str(len(data)).encode(), binary=True)
        socket.write_message(_exit(0), binary=True)
        socket.close()


def test_a_program_learns_that_its_input_has_ended(start: Start, tmp_path: Path) -> None:
    api = start(lambda request: None, _sorter, [V5])
    done = api.connect(tmp_path).execute("p", "n", ["wc", "-c"], stdin=b"x" * 100_001, container="c")
    assert (done.stdout, done.code) == (b"100001", 0)
    assert api.commands == [["wc", "-c"]]


def test_an_older_server_is_given_counted_input(start: Start, tmp_path: Path) -> None:
    def program(socket: Any, got: list[bytes]) -> None:
        if sum(len(one) - 1 for one in got) == 50_000:
            socket.write_message(b"\x02bad", binary=True)
            socket.write_message(_exit(7), binary=True)
            socket.close()

    api = start(lambda request: None, program, [V4])
    done = api.connect(tmp_path).execute("p", "n", ["sort", "-u"], stdin=b"x" * 50_000)
    assert (done.stdout, done.stderr, done.code) == (b"", b"bad", 7)
    assert api.commands[-1] == ["sh", "-c", 'n=$1; shift; head -c "$n" | "$@"', "sh", "50000", "sort", "-u"]


def test_a_program_s_exit_code_and_streams(start: Start, tmp_path: Path) -> None:
    def program(socket: Any, got: list[bytes]) -> None:
        for message in (b"\x01one ", b"\x02two", b"\x01three", _exit(3)):
            socket.write_message(message, binary=True)
        socket.close()

    done = start(lambda request: None, program, [V5]).connect(tmp_path).execute("p", "n", ["x"])
    assert (done.stdout, done.stderr, done.code) == (b"one three", b"two", 3)


def test_a_connection_that_ends_without_a_word_is_a_problem(start: Start, tmp_path: Path) -> None:
    api = start(lambda request: None, lambda socket, got: socket.close(), [V5])
    with pytest.raises(ClusterProblem) as raised:
        api.connect(tmp_path).execute("p", "n", ["x"])
    assert raised.value.reason == "unreachable"


def test_a_program_that_does_not_end_is_late(start: Start, tmp_path: Path) -> None:
    api = start(lambda request: None, lambda socket, got: None, [V5])
    with pytest.raises(ClusterProblem, match="did not end within 1 s"):
        api.connect(tmp_path).execute("p", "n", ["sleep"], seconds=1)


def test_a_program_that_could_not_be_started_says_why(start: Start, tmp_path: Path) -> None:
    status = {"status": "Failure", "message": 'container not found ("c")'}

    def program(socket: Any, got: list[bytes]) -> None:
        socket.write_message(b"\x03" + json.dumps(status).encode(), binary=True)
        socket.close()

    with pytest.raises(ClusterProblem, match="container not found"):
        start(lambda request: None, program, [V5]).connect(tmp_path).execute("p", "n", ["x"], container="c")
