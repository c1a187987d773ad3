"""Lines as JupyterHub, Dask Gateway, configurable-http-proxy, the supervisor and traefik write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from tidehub.log_filter import is_probe, moment, since

PROBES = [
    b"[I 2026-12-01 10:55:16.120 DaskGateway] 200 GET /api/v1/routes 0.357ms",
    b"\x1b[32m[I 2026-12-01 10:55:16.120 DaskGateway]\x1b[0m 200 GET /api/health 0.3ms",
    b"2026-12-01T10:59:16.420Z [ConfigProxy] \x1b[32minfo\x1b[39m: 200 GET /api/routes ",
    b"[I 2026-12-01 11:00:01.400 JupyterHub log:192] 200 GET /hub/health (@10.1.2.3) 1.77ms",
    b"[I 2026-12-01 11:00:01.400 JupyterHub log:192] 200 GET /hub/api (@127.0.0.1) 0.7ms",
    b"[I 2026-12-01 11:00:01.400 JupyterHub log:192] 200 GET /base/hub/health? (@10.1.2.3) 1.77ms",
    b'10.1.2.3 - - [01/Dec/2026:10:00:00 +0000] "GET /ping HTTP/1.1" 200 2 "-" "kube-probe/1.34"',
]
OTHERS = [
    b"[W 2026-12-01 11:00:01.400 JupyterHub log:192] 503 GET /hub/health (@10.1.2.3) 1.77ms",
    b"[I 2026-12-01 11:00:01.400 JupyterHub log:192] 200 GET /hub/api/users (ann@10.1.2.3) 8.12ms",
    b"[I 2026-12-01 11:00:01.400 JupyterHub log:192] 200 GET /hub/home (ann@10.1.2.3) 8.12ms",
    b"[I 2026-12-01 11:00:01.400 DaskGateway] 200 GET /api/v1/clusters/health-data 0.3ms",
    b"2026-12-01T10:59:16.422Z [ConfigProxy] info: 201 POST /api/routes/user/ann ",
    b'10.1.2.3 - - [01/Dec/2026:10:00:00 +0000] "GET /ping HTTP/1.1" 502 2 "-" "kube-probe/1.34"',
    b"the word health alone",
]


@pytest.mark.parametrize("line", PROBES)
def test_answered_probes(line: bytes) -> None:
    assert is_probe(line)


@pytest.mark.parametrize("line", OTHERS)
def test_what_an_operator_should_see(line: bytes) -> None:
    assert not is_probe(line)


def test_a_long_line_takes_no_time() -> None:
    assert not is_probe(b"200 GET /" * 20_000 + b"a" * 16_000)


@pytest.mark.parametrize(
    ("line", "when"),
    [
        (b"2026-12-01T10:59:16.420Z [ConfigProxy] info", (2026, 12, 1, 10, 59, 16)),
        (b"[I 2026-12-01 10:59:16.420 JupyterHub] x", (2026, 12, 1, 8, 59, 16)),
        (b"2026-12-01 10:59:16,420 INFO tidehub.identity: x", (2026, 12, 1, 8, 59, 16)),
        (b"2026/12/01 10:59:16 http: Accept error", (2026, 12, 1, 8, 59, 16)),
        (b"2026-12-01T10:59:16+01:00 x", (2026, 12, 1, 9, 59, 16)),
    ],
)
def test_the_time_of_a_line(line: bytes, when: tuple[int, ...]) -> None:
    assert moment(line, timezone(timedelta(hours=2))) == datetime(*when, tzinfo=UTC)  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    "line", [b"", b"Traceback", b"2026-13-77T10:59:16Z", b" " * 90 + b"2026-12-01T10:59:16Z"]
)
def test_lines_without_a_time(line: bytes) -> None:
    assert moment(line) is None


def test_since_begins_at_a_time_and_keeps_what_belongs_to_it() -> None:
    lines = [
        b"start",
        b"2026-12-01T10:00:00Z a",
        b" more",
        b"2026-12-01T10:05:00Z b",
        b" more",
        b"2026-12-01T10:01:00Z c",
    ]
    start = datetime(2026, 12, 1, 10, 5, tzinfo=UTC)
    assert list(since(lines, start)) == lines[3:]
    assert list(since(lines, start + timedelta(seconds=1))) == []
