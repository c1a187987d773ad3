"""Which lines of a log an operator wants: without answered health probes, and not older than asked for. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, tzinfo

Keep = Callable[[bytes], bool]

_PROBED = (
    rb"/\S*?(?:health|healthz|_chp_healthz|ping|hub/api|api/routes|api/v1/routes)/?(?:\?\S*)?(?=[\s\"]|$)"
)
_PROBE = re.compile(
    rb"\b(?:200|204|304) (?:GET|HEAD) "  # tornado, aiohttp as dask-gateway sets it up, configurable-http-proxy
    + _PROBED
    + rb"|\"(?:GET|HEAD) "  # Combined Log Format, as traefik writes it
    + _PROBED
    + rb" HTTP/[\d.]+\" (?:200|204|304)\b"
)
_STAMP = re.compile(rb"(\d{4})[-/](\d\d)[-/](\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,]\d+)?(Z|[+-]\d\d:?\d\d)?")
_WITHIN = 80
"""Bytes from the start of a line within which its own time stands."""


def is_probe(line: bytes) -> bool:
    """Whether this line is the answer, all well, to a part that asks again and again whether another one is there."""
    return _PROBE.search(line) is not None


def moment(line: bytes, local: tzinfo | None = None) -> datetime | None:
    """When a line was written, as far as it says so. `local` is the time zone of stamps that name none: the machine's
    own by default."""
    found = _STAMP.search(line[:_WITHIN])
    if found is None:
        return None
    try:
        written = datetime(*(int(part) for part in found.groups()[:6]))  # type: ignore[arg-type]  # six numbers
    except ValueError:
        return None
    zone = found[7]
    if zone is None:
        return written.replace(tzinfo=local) if local else written.astimezone()
    if zone == b"Z":
        return written.replace(tzinfo=UTC)
    return datetime.strptime(f"{written:%Y-%m-%dT%H:%M:%S}{zone.decode()}", "%Y-%m-%dT%H:%M:%S%z")


def since(lines: Iterable[bytes], start: datetime) -> Iterator[bytes]:
    """The lines from the first one that was written at `start` or later; those without a time go with those before."""
    begun = False
    for line in lines:
        if not begun:
            written = moment(line)
            begun = written is not None and written >= start
        if begun:
            yield line
