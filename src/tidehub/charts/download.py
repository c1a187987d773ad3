"""The edge to a chart repository: its index and archives over HTTP, each with a deadline and a size."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

from tidehub.charts import repositories
from tidehub.charts.documents import read_one
from tidehub.errors import Place, TidehubError

SECONDS = 60.0
"""For one file, from the first connection to its last byte."""
LARGEST_INDEX = 50 * 2**20
"""Bytes. Helm repositories grow with every release; the largest in use here has two megabytes."""
_REDIRECTS = 5
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def archive(
    name: str,
    version: str,
    *,
    largest: int,
    environ: Mapping[str, str] = os.environ,
    seconds: float = SECONDS,
) -> tuple[bytes, str | None]:
    """A published archive and the digest that the repository's index states for it (None where it states none).

    Raises `TidehubError` where the repository is not reached, is none, does not have the version (naming the nearest
    ones), or sends more than `largest` bytes.
    """
    address = repositories.index(name, environ)
    entries = _entries(read(address, LARGEST_INDEX, seconds), name, address)
    entry = next(
        (each for each in entries if str(each.get("version", "")).lstrip("v") == version.lstrip("v")), None
    )
    if entry is None:
        raise TidehubError(
            f"{name} {version} was not found in its repository",
            where=Place(address),
            expected="one of " + ", ".join(nearest(version, [str(each.get("version")) for each in entries])),
            fix="correct the version in kubernetes.charts",
        )
    urls = entry.get("urls")
    if not isinstance(urls, list) or not urls:
        raise _no_index(address, f"{name} {version} has no address in it")
    digest = entry.get("digest")
    return read(urljoin(address, str(urls[0])), largest, seconds), (
        str(digest).removeprefix("sha256:") if digest else None
    )


def nearest(version: str, versions: list[str], count: int = 5) -> list[str]:
    """The released versions that are closest to `version`, closest first; development versions only without others."""

    def numbers(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in re.findall(r"[0-9]+", text.partition("-")[0]))

    def same(one: tuple[int, ...], other: tuple[int, ...]) -> int:
        return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))

    wanted = numbers(version)
    released = [each for each in versions if "-" not in each] or versions

    def distance(text: str) -> tuple[Any, ...]:
        its = numbers(text)
        alike = same(wanted, its)
        first = abs(wanted[alike] - its[alike]) if alike < min(len(wanted), len(its)) else 0
        return (-alike, first, tuple(-part for part in its))

    return sorted(released, key=distance)[:count]


def read(address: str, largest: int, seconds: float) -> bytes:
    """What is at an address, redirects followed. Only https, or http to this machine. Raises `TidehubError`."""
    import httpx

    deadline = time.monotonic() + seconds
    timeout = httpx.Timeout(min(20.0, seconds))
    at = address
    try:
        with httpx.Client(
            timeout=timeout, follow_redirects=False, headers={"Accept-Encoding": "identity"}
        ) as client:
            for _ in range(_REDIRECTS + 1):
                _check_scheme(at)
                with client.stream("GET", at) as answer:
                    if answer.is_redirect:
                        at = urljoin(at, answer.headers.get("location", ""))
                        continue
                    if answer.status_code != 200:
                        raise TidehubError(
                            f"the chart repository answered {answer.status_code}",
                            where=Place(at),
                            expected="200",
                            fix="try the address in a browser; name a mirror with TIDEHUB_CHART_MIRROR, "
                            "or bring the archives and use --charts DIR",
                        )
                    data = bytearray()
                    for chunk in answer.iter_raw():
                        data += chunk
                        if len(data) > largest:
                            raise TidehubError(
                                f"the chart repository sends more than {largest // 2**20} MiB",
                                where=Place(at),
                                fix="this address is not what it should be; name a mirror with TIDEHUB_CHART_MIRROR",
                            )
                        if time.monotonic() > deadline:
                            raise _not_reached(at, f"not done after {seconds:.0f} s")
                    return bytes(data)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise _not_reached(at, str(error) or type(error).__name__) from None
    raise _not_reached(address, f"more than {_REDIRECTS} redirects")


def _check_scheme(address: str) -> None:
    parts = urlsplit(address)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        return
    raise TidehubError(
        "a chart repository must be reached by https",
        where=Place(address),
        expected="https://..., or http to this machine",
        fix="correct TIDEHUB_CHART_MIRROR, or bring the archives and use --charts DIR",
    )


def _entries(data: bytes, name: str, address: str) -> list[Mapping[str, Any]]:
    try:
        entries = read_one(data)["entries"].get(name) or []
        found = [each for each in entries if isinstance(each, Mapping)]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _no_index(address, "what answers is not an index of charts") from None
    if not found:
        raise _no_index(address, f"{name} is not in it")
    return found


def _no_index(address: str, what: str) -> TidehubError:
    return TidehubError(
        f"the chart repository cannot be used: {what}",
        where=Place(address),
        expected="an index.yaml as `helm repo index` makes it",
        fix="correct TIDEHUB_CHART_MIRROR; a proxy or login page may have answered in its place",
    )


def _not_reached(address: str, why: str) -> TidehubError:
    return TidehubError(
        f"the chart repository was not reached ({why})",
        where=Place(address),
        expected="a network, or the archives on this machine",
        fix="check the network and HTTPS_PROXY; or name a mirror with TIDEHUB_CHART_MIRROR, or bring the archives "
        "and use --charts DIR",
    )
