"""Ranges of Kubernetes versions as charts write them (`kubeVersion`), by Helm's rules. Pure.

Helm reads them with github.com/Masterminds/semver/v3: comparisons joined by commas or spaces all hold, those on either
side of `||` are alternatives, and a version with a pre-release part (`v1.30.4-gke.100`) only fits where one of the
joined comparisons has one itself. That is why charts write `>=1.28.0-0`.
"""

from __future__ import annotations

import re
from typing import Any

_VERSION = re.compile(r"v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?")
_PART = r"[vV]?(?:\d+|[xX*])(?:\.(?:\d+|[xX*]))?(?:\.(?:\d+|[xX*]))?(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?"
_COMPARISON = re.compile(rf"\s*(=|!=|>=|=>|<=|=<|>|<|~>|~|\^)?\s*({_PART})\s*,?")
_HYPHEN = re.compile(rf"\s*({_PART})\s+-\s+({_PART})\s*")

Parsed = tuple[int, int, int, str]


def check_kube_version(wanted: str | None, version: str) -> bool:
    """Whether a Kubernetes version fits a chart's range; no range fits every one. Raises `ValueError` for nonsense."""
    if not wanted or not wanted.strip():
        return True
    its = parse(version)
    # Every alternative is read, so that nonsense in one is found whatever the others say.
    fits = [_all_hold(alternative, its) for alternative in wanted.split("||")]
    return any(fits)


def parse(version: str) -> Parsed:
    """Major, minor, patch and pre-release of a version such as `v1.34.4` or `1.30`. Raises `ValueError`."""
    matched = _VERSION.fullmatch(version.strip())
    if not matched:
        raise ValueError(f"{version!r} is not a version")
    return (int(matched[1]), int(matched[2] or 0), int(matched[3] or 0), matched[4] or "")


def _all_hold(text: str, version: Parsed) -> bool:
    text = _HYPHEN.sub(r" >=\1 <=\2 ", text)
    comparisons: list[tuple[str, str]] = []
    at = 0
    while text[at:].strip():
        matched = _COMPARISON.match(text, at)
        if not matched:
            raise ValueError(f"{text.strip()!r} is not a range of versions")
        comparisons.append((matched[1] or "=", matched[2].lstrip("vV").partition("+")[0]))
        at = matched.end()
    if not comparisons:
        raise ValueError("an empty range of versions")
    if version[3] and not any("-" in stated for _, stated in comparisons):
        return False
    return all(_holds(sign, stated, version) for sign, stated in comparisons)


def _holds(sign: str, text: str, version: Parsed) -> bool:
    core, _, suffix = text.partition("-")
    stated = core.split(".")
    numbers = [int(part) if part.isdigit() else None for part in stated] + [None] * (3 - len(stated))
    open_from = numbers.index(None) if None in numbers else 3
    low: Parsed = (*(number or 0 for number in numbers[:open_from]), *([0] * (3 - open_from)), suffix)  # type: ignore[assignment]
    if open_from == 0:
        return sign not in {"!=", "<", ">"}
    if sign in {"=", "!="}:
        same = (
            _between(version, low, _next(low, open_from - 1)) if open_from < 3 else _key(version) == _key(low)
        )
        return same if sign == "=" else not same
    if sign in {">=", "=>"}:
        return _key(version) >= _key(low)
    if sign == "<":
        return _key(version) < _key(low)
    if sign == ">":
        return (
            _key(version) >= _key(_next(low, open_from - 1)) if open_from < 3 else _key(version) > _key(low)
        )
    if sign in {"<=", "=<"}:
        return (
            _key(version) < _key(_next(low, open_from - 1)) if open_from < 3 else _key(version) <= _key(low)
        )
    if sign in {"~", "~>"}:
        return _between(version, low, _next(low, min(open_from - 1, 1)))
    significant = next((at for at in range(open_from) if low[at]), open_from - 1)
    return _between(version, low, _next(low, significant))


def _between(version: Parsed, low: Parsed, beyond: Parsed) -> bool:
    return _key(low) <= _key(version) < _key(beyond)


def _next(version: Parsed, place: int) -> Parsed:
    numbers = list(version[:3])
    numbers[place] += 1
    return (*numbers[: place + 1], *([0] * (2 - place)), "")  # type: ignore[return-value]


def _key(version: Parsed) -> tuple[Any, ...]:
    """Orders as SemVer 2 does: a pre-release comes before its release, its numeric parts before others."""
    *numbers, suffix = version
    if not suffix:
        return (*numbers, 1, ())
    parts = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in suffix.split("."))
    return (*numbers, 0, parts)
