"""What goes on longer than one answer: watches, logs, and programs run in containers."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlencode

from tidehub.kubernetes.cluster.port import ClusterProblem, ExecResult, WatchEvent
from tidehub.kubernetes.cluster.problems import refused, unreachable
from tidehub.kubernetes.cluster.transport import CONNECT_SECONDS, Transport
from tidehub.kubernetes.objects import Object
from tidehub.lines import LONGEST_SHOWN, Splitter

_WATCH_SECONDS = 60.0
"""One connection of a watch: what is lost without a word (a tunnel, a load balancer) is noticed after this."""
_GRACE = 3.0
"""A server that does not end a watch itself gets this much longer."""
_LOG_IDLE = 300.0
"""A followed log is asked for anew after this much silence."""
_PAUSE = 1.0
_PASSING = frozenset({"unreachable", "timeout"})
"""What a watch bears for as long as another call would wait."""
_V5 = "v5.channel.k8s.io"
_STDIN, _STDOUT, _STDERR, _ERROR = 0, 1, 2, 3
_BLOCK = 32 * 1024

Query = list[tuple[str, str]]
Listed = Callable[[], tuple[list[Object], str]]


def watch(
    transport: Transport, path: str, query: Query, listed: Listed, *, kind: str, seconds: float
) -> Iterator[WatchEvent]:
    """What `listed` gives as ADDED, then changes; after a gap the difference to what was known."""
    deadline = time.monotonic() + seconds
    known: dict[str, Object] = {}
    version = ""
    failing_since: float | None = None
    while time.monotonic() < deadline:
        try:
            if not version:
                objects, version = listed()
                failing_since = None
                yield from _difference(known, objects)
            for event in _connection(transport, path, query, version, kind, deadline):
                failing_since = None
                if event["type"] == "ERROR":
                    status = event.get("object") or {}
                    raise refused(
                        int(status.get("code") or 500), json.dumps(status), f"watch {kind}", transport.server
                    )
                obj: Object = event["object"]
                version = str(obj["metadata"]["resourceVersion"])
                if event["type"] != "BOOKMARK":
                    _remember(known, event["type"], obj)
                    yield WatchEvent(event["type"], obj)
        except ClusterProblem as problem:
            if problem.reason == "expired":
                # Too much has happened since: what there is now is listed again.
                version = ""
                continue
            failing_since = failing_since or time.monotonic()
            if problem.reason not in _PASSING or time.monotonic() - failing_since > transport.seconds:
                raise
            time.sleep(min(_PAUSE, max(deadline - time.monotonic(), 0)))


def _difference(known: dict[str, Object], objects: list[Object]) -> Iterator[WatchEvent]:
    """Events that lead from what was known to what there is."""
    there = {_identity(obj): obj for obj in objects}
    for identity in [identity for identity in known if identity not in there]:
        yield WatchEvent("DELETED", known.pop(identity))
    for identity, obj in there.items():
        before = known.get(identity)
        known[identity] = obj
        if before is None:
            yield WatchEvent("ADDED", obj)
        elif before["metadata"].get("resourceVersion") != obj["metadata"].get("resourceVersion"):
            yield WatchEvent("MODIFIED", obj)


def _remember(known: dict[str, Object], kind: str, obj: Object) -> None:
    if kind == "DELETED":
        known.pop(_identity(obj), None)
    else:
        known[_identity(obj)] = obj


def _identity(obj: Object) -> str:
    meta = obj["metadata"]
    return str(meta.get("uid") or f"{meta.get('namespace')}/{meta.get('name')}")


class _Cut(OSError):
    """A connection of a stream was lost."""


def _connection(
    transport: Transport, path: str, query: Query, version: str, kind: str, deadline: float
) -> Iterator[dict[str, Any]]:
    """Events of one connection, until the server ends it or says nothing more."""
    left = max(min(deadline - time.monotonic(), _WATCH_SECONDS), 0.1)
    asked = [
        *query,
        ("watch", "true"),
        ("allowWatchBookmarks", "true"),
        ("resourceVersion", version),
        # Whole seconds are all that the API takes.
        ("timeoutSeconds", str(math.ceil(left))),
    ]
    doing = f"watch {kind}"
    response = transport.stream(path, doing=doing, query=asked, idle=left + _GRACE)
    try:
        for line in _lines(response, until=deadline):
            if line:
                yield json.loads(line)
    except (_Cut, ValueError) as cut:
        # ValueError: a line that was cut in its middle.
        raise unreachable(cut, doing, transport.server, transport.seconds) from cut


def _lines(response: Any, *, until: float | None = None, longest: int = 2**62) -> Iterator[bytes]:
    """Lines as they come. Silence ends them like the end of the answer; a cut raises `_Cut`."""
    from urllib3.exceptions import HTTPError, ReadTimeoutError

    splitter = Splitter(longest=longest)
    try:
        for chunk in response.stream(1 << 16, decode_content=True):
            yield from splitter.feed(chunk)
            if until is not None and time.monotonic() > until:
                return
        yield from splitter.rest()
    except ReadTimeoutError:
        return
    except (HTTPError, OSError) as error:
        raise _Cut(str(error)) from error
    finally:
        response.close()


def logs(
    transport: Transport,
    path: str,
    query: Query,
    *,
    pod: str,
    tail: int | None,
    follow: bool,
    seconds: float | None = None,
) -> Iterator[str]:
    """Lines of a log; see `Cluster.logs`."""
    doing = f"read the log of pod {pod}"
    asked = [*query, *([("tailLines", str(tail))] if tail is not None else [])]
    asked += [("sinceSeconds", str(max(1, math.ceil(seconds))))] if seconds is not None else []
    if not follow:
        response = transport.stream(path, doing=doing, query=asked, idle=transport.seconds)
        try:
            for line in _lines(response, longest=LONGEST_SHOWN):
                yield line.decode("utf-8", "backslashreplace").rstrip("\r")
        except _Cut as cut:
            raise unreachable(cut, doing, transport.server, transport.seconds) from cut
        return
    yield from _followed(transport, path, query, asked, doing)


def _followed(transport: Transport, path: str, query: Query, first: Query, doing: str) -> Iterator[str]:
    """With time stamps, so that a new connection knows where the last one stopped."""
    last = b""
    asked = first
    while True:
        more = [("follow", "true"), ("timestamps", "true")]
        response = transport.stream(path, doing=doing, query=[*asked, *more], idle=_LOG_IDLE)
        started = time.monotonic()
        try:
            for line in _lines(response, longest=LONGEST_SHOWN):
                stamp, _, text = line.partition(b" ")
                if last and _moment(stamp) <= _moment(last):
                    continue
                last = stamp
                yield text.decode("utf-8", "replace").rstrip("\r")
            if time.monotonic() - started < _LOG_IDLE:
                return
        except _Cut:
            time.sleep(_PAUSE)
        # `sinceTime` has whole seconds; what it repeats is skipped by its stamp.
        asked = [*query, ("sinceTime", f"{last[:19].decode()}Z")] if last else first


def _moment(stamp: bytes) -> tuple[bytes, bytes]:
    """RFC 3339 with up to nine digits of a second, in UTC, as a kubelet writes it: something that sorts."""
    return stamp[:19], stamp[19:].strip(b".Z").ljust(9, b"0")


def execute(
    transport: Transport,
    path: str,
    argv: Sequence[str],
    *,
    pod: str,
    container: str | None,
    stdin: bytes,
    seconds: float,
) -> ExecResult:
    """Runs a program; see `Cluster.execute`."""
    doing = f"run {argv[0]} in pod {pod}"
    deadline = time.monotonic() + seconds
    socket = _opened(transport, path, argv, container, bool(stdin), doing, seconds)
    if stdin and getattr(socket, "subprotocol", None) != _V5:
        # Before Kubernetes 1.30 nothing says that the input has ended, so the program is given a counted piece of it.
        socket.close()
        counted = ["sh", "-c", 'n=$1; shift; head -c "$n" | "$@"', "sh", str(len(stdin)), *argv]
        socket = _opened(transport, path, counted, container, True, doing, seconds)
    try:
        return _conversation(socket, stdin, deadline, transport, doing, seconds)
    finally:
        socket.close()


def _opened(
    transport: Transport,
    path: str,
    argv: Sequence[str],
    container: str | None,
    has_stdin: bool,
    doing: str,
    seconds: float,
) -> Any:
    import websocket
    from kubernetes.client.exceptions import ApiException
    from kubernetes.stream.ws_client import WSClient, get_websocket_url

    query = [("command", part) for part in argv] + [("stdout", "true"), ("stderr", "true")]
    query += [("stdin", "true")] if has_stdin else []
    query += [("container", container)] if container else []
    configuration = transport.configuration()
    url = get_websocket_url(f"{configuration.host}{path}?{urlencode(query)}")
    token = transport.authorization()
    # The client gives its websockets no timeout of their own; this is the only way to one.
    websocket.setdefaulttimeout(min(seconds, CONNECT_SECONDS))
    try:
        client = WSClient(configuration, url, {"authorization": token} if token else {}, False, binary=True)
    except websocket.WebSocketBadStatusException as error:
        body = error.resp_body
        text = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body or "")
        raise refused(error.status_code, text, doing, transport.server) from error
    except (websocket.WebSocketException, ApiException, OSError) as error:
        raise unreachable(error, doing, transport.server, seconds) from error
    client.sock.settimeout(seconds)
    return client


def _conversation(
    socket: Any, stdin: bytes, deadline: float, transport: Transport, doing: str, seconds: float
) -> ExecResult:
    import websocket

    gathered = {_STDOUT: bytearray(), _STDERR: bytearray(), _ERROR: bytearray()}

    def collect(timeout: float) -> None:
        socket.update(timeout=timeout)
        for channel, into in gathered.items():
            into += socket.read_channel(channel) if channel in socket._channels else b""

    try:
        for start in range(0, len(stdin), _BLOCK):
            # Reading in between: a program that answers while it is fed would else block both.
            socket.write_channel(_STDIN, stdin[start : start + _BLOCK])
            collect(0)
            _in_time(deadline, transport, doing, seconds)
        if stdin and getattr(socket, "subprotocol", None) == _V5:
            socket.close_channel(_STDIN)
        while socket.is_open():
            collect(min(max(deadline - time.monotonic(), 0), 1.0))
            if socket.is_open() and not gathered[_ERROR]:
                _in_time(deadline, transport, doing, seconds)
            elif gathered[_ERROR]:
                break
        collect(0)
    except (websocket.WebSocketException, OSError) as error:
        # A program may end before it has read everything: how it ended may still have come, if the server's reset of
        # the connection has not overtaken it.
        with contextlib.suppress(websocket.WebSocketException, OSError):
            collect(1.0)
        if not gathered[_ERROR]:
            raise unreachable(error, doing, transport.server, seconds) from error
    return ExecResult(
        bytes(gathered[_STDOUT]),
        bytes(gathered[_STDERR]),
        _exit_code(bytes(gathered[_ERROR]), doing, transport),
    )


def _in_time(deadline: float, transport: Transport, doing: str, seconds: float) -> None:
    if time.monotonic() > deadline:
        raise ClusterProblem(
            f"{doing}: it did not end within {seconds:.0f} s",
            reason="timeout",
            expected=f"an end of the program in {transport.server.name}",
        )


def _exit_code(error: bytes, doing: str, transport: Transport) -> int:
    """From the Status that the kubelet sends at the end."""
    try:
        status = json.loads(error)
    except ValueError as problem:
        raise unreachable(OSError("Connection aborted"), doing, transport.server, 0) from problem
    if status.get("status") == "Success":
        return 0
    causes = (status.get("details") or {}).get("causes") or []
    for cause in causes:
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise ClusterProblem(f"{doing}: {status.get('message') or 'it could not be run'}", reason="other")
