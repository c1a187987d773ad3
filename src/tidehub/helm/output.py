"""What `helm ... -o json` prints, of versions 3 and 4, as our own types. Raises `HelmProblem` for anything else."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from tidehub.helm.engine import ReleaseRecord, Revision
from tidehub.helm.problems import HelmProblem
from tidehub.helm.sentences import short

_GO_TIME = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(\.\d+)? ([+-]\d\d)(\d\d)\b")


def document(text: str) -> Any:
    """The JSON document."""
    try:
        return json.loads(text)
    except ValueError:
        raise _unknown() from None


def revisions(text: str) -> tuple[Revision, ...]:
    """`helm history`: oldest first."""
    try:
        found = [
            Revision(
                number=int(each["revision"]),
                status=str(each["status"]),
                chart=str(each["chart"]),
                app_version=str(each.get("app_version") or ""),
                description=short(str(each.get("description") or "")),
                updated=moment(str(each.get("updated") or "")),
            )
            for each in document(text) or []
        ]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _unknown() from None
    return tuple(sorted(found, key=lambda each: each.number))


def records(text: str) -> tuple[ReleaseRecord, ...]:
    """`helm list`: by name."""
    try:
        found = [
            ReleaseRecord(
                each["name"],
                each["namespace"],
                int(each["revision"]),
                each["status"],
                *chart_and_version(str(each["chart"])),
                app_version=str(each.get("app_version") or ""),
                updated=moment(str(each.get("updated") or "")),
            )
            for each in document(text) or []
        ]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _unknown() from None
    return tuple(sorted(found, key=lambda each: each.name))


def record_of(release: str, namespace: str, revision: Revision) -> ReleaseRecord:
    """A release as its newest revision describes it."""
    chart, version = chart_and_version(revision.chart)
    return ReleaseRecord(
        name=release,
        namespace=namespace,
        revision=revision.number,
        status=revision.status,
        chart=chart,
        chart_version=version,
        app_version=revision.app_version,
        updated=revision.updated,
        description=revision.description,
    )


def applied(text: str, chart: Mapping[str, str]) -> tuple[ReleaseRecord, str]:
    """`helm upgrade`: the release, and its manifest with its hooks as `helm template` prints them.

    `chart` has the keys name, version and appVersion of the chart that was given: Helm leaves it out of its answer.
    """
    found = document(text)
    try:
        info = found["info"]
        record = ReleaseRecord(
            name=found["name"],
            namespace=found["namespace"],
            revision=int(found["version"]),
            status=info["status"],
            chart=chart["name"],
            chart_version=chart["version"],
            app_version=chart.get("appVersion", ""),
            updated=moment(str(info.get("last_deployed") or "")),
            description=short(str(info.get("description") or "")),
        )
        manifest = str(found.get("manifest") or "").strip("\n") + "\n"
        for hook in found.get("hooks") or []:
            text = str(hook["manifest"]).strip("\n")
            # Helm keeps the comment in some hooks' text and not in others.
            source = "" if text.startswith("# Source:") else f"# Source: {hook['path']}\n"
            manifest += f"---\n{source}{text}\n"
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _unknown() from None
    return record, manifest


def chart_and_version(text: str) -> tuple[str, str]:
    """`jupyterhub-4.0.0-0.dev` is the chart `jupyterhub` at `4.0.0-0.dev`."""
    matched = re.fullmatch(r"(.+?)-(v?\d+\.\d+.*)", text)
    return (matched[1], matched[2]) if matched else (text, "")


def moment(text: str) -> str:
    """A time as Go prints it, or RFC 3339 already, as RFC 3339."""
    matched = _GO_TIME.match(text)
    if not matched:
        return text
    zone = "Z" if matched[4] + matched[5] == "+0000" else f"{matched[4]}:{matched[5]}"
    return f"{matched[1]}T{matched[2]}{matched[3] or ''}{zone}"


def _unknown() -> HelmProblem:
    return HelmProblem(
        "helm printed something that tidehub does not understand",
        expected="the JSON of helm 3.18 or newer, or 4",
        fix="check that TIDEHUB_HELM, or helm on PATH, is the real program and not a wrapper that prints by itself",
    )
