"""What a changed site, or another tidehub, means for a platform that runs: the decision table of `up` and `reload`.

Pure. Two of these are compared: what the supervisor serves, and what it is asked to serve. Nothing here ever ends a
server or a cluster: parts start anew where the table says so, and what a running server or cluster cannot take on is
said, by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from tidehub.local.hub.fixed_at_start import Started, fixed_at_start
from tidehub.site.describe import all_keys, written
from tidehub.site.model import Site


class Reach(StrEnum):
    """Whom a change reaches without the restart of anybody's server or cluster."""

    NOW = "everybody, at once"
    LOGIN = "everybody, at the next login or refresh of it"
    SERVERS = "servers that start from now on"
    CLUSTERS = "clusters that start from now on"
    NOBODY = "nobody: one machine does not use it"


@dataclass(frozen=True)
class Rule:
    """What a key needs. `parts` read it and start anew; with `whole` all do, because addresses or parts change."""

    reach: Reach
    parts: tuple[str, ...] = ()
    whole: bool = False


_BOTH = ("hub", "gateway")
RULES: dict[str, Rule] = {
    "preset": Rule(Reach.NOBODY),
    "site.name": Rule(Reach.NOW, ("identity", "gateway", "dashboards", "hub")),
    "site.url": Rule(Reach.NOW, whole=True),
    "site.contact": Rule(Reach.NOW, ("identity", "gateway", "dashboards", "hub")),
    "site.people": Rule(Reach.NOBODY),
    # The gateway looks memberships up by the rule too; demo accounts follow it.
    "login": Rule(Reach.LOGIN, ("identity", *_BOTH)),
    "login.provider": Rule(Reach.LOGIN, whole=True),
    "login.groups": Rule(Reach.SERVERS, _BOTH),
    "login.enrolment_url": Rule(Reach.NOW, ("hub",)),
    "notebooks": Rule(Reach.SERVERS, _BOTH),
    "notebooks.idle_timeout": Rule(Reach.NOW, ("hub", "culler")),
    "notebooks.max_age": Rule(Reach.NOW, ("culler",)),
    "notebooks.home": Rule(Reach.NOW, _BOTH),
    "notebooks.ephemeral_storage": Rule(Reach.NOBODY),
    "dask": Rule(Reach.CLUSTERS, _BOTH),
    "dask.engine": Rule(Reach.SERVERS, whole=True),
    "dask.cluster.orphan_grace": Rule(Reach.NOW, ("gateway",)),
    "dask.image": Rule(Reach.NOBODY),
    "machine": Rule(Reach.NOW, whole=True),
    "machine.reserve_memory": Rule(Reach.NOW, _BOTH),
    "machine.storage": Rule(Reach.NOBODY),
    "hub": Rule(Reach.NOBODY),
    "kubernetes": Rule(Reach.NOBODY),
    "infrastructure": Rule(Reach.NOBODY),
    "overrides.helm": Rule(Reach.NOBODY),
    "overrides.hub_config": Rule(Reach.NOW, ("hub",)),
    "overrides.gateway_config": Rule(Reach.NOW, ("gateway",)),
}
"""By the beginning of a key; the longest counts."""
_ENVIRONMENT = Rule(Reach.SERVERS, _BOTH)
_WHOLE_OPTIONS = ("port", "demo_login", "demo_login_on_public_address")
_SHOWN = 60
"""Characters of a value that is shown; of a longer one it is said that it has changed."""
_PRIVATE = ("machine.database_url", "overrides.")
"""Keys whose values are never shown: an address may hold a password, and Python code tells nothing in one line."""


def rule_of(key: str) -> Rule | None:
    """The rule for a key such as `notebooks.profiles[minimal].memory.limit`; None where there is none."""
    words = re.sub(r"\[[^]]*\]", "", key).split(".")
    names = (".".join(words[:count]) for count in range(len(words), 0, -1))
    return next((RULES[name] for name in names if name in RULES), None)


@dataclass(frozen=True)
class Served:
    """What a platform serves, in JSON's types. `site` is the whole site, `options` those of `up`, `environments` the
    version of each profile's, by slug; `program` names the source of tidehub."""

    site: Mapping[str, Any]
    options: Mapping[str, Any]
    environments: Mapping[str, str]
    program: str
    version: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Served:
        """Raises `KeyError` or `TypeError` for something else."""
        return cls(
            site=dict(found["site"]),
            options=dict(found["options"]),
            environments=dict(found["environments"]),
            program=str(found["program"]),
            version=str(found["version"]),
        )


@dataclass(frozen=True)
class Change:
    """One key, before and after, in words."""

    key: str
    before: str
    after: str
    reach: Reach

    def words(self) -> str:
        return f"{self.key}: {self.before} -> {self.after}"


@dataclass(frozen=True)
class Plan:
    """What is to be done. `whole`: why every part starts anew, empty where `parts` are enough."""

    changes: tuple[Change, ...] = ()
    parts: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    """Servers, as `user` or `user/server`, that would start otherwise now: they go on as they are until then."""
    clusters: tuple[str, ...] = ()
    """Clusters' processes that go on as they are."""
    refused: tuple[str, ...] = field(default=())
    """Why it cannot be done while these servers and clusters run."""

    @property
    def empty(self) -> bool:
        return not self.changes and not self.whole

    def to_json(self) -> dict[str, Any]:
        """The same as plain values, for `--json`."""
        return {
            "changes": [{**asdict(one), "reach": str(one.reach)} for one in self.changes],
            "parts": list(self.parts),
            "every_part": list(self.whole),
            "servers_to_restart": list(self.restart),
            "clusters_to_restart": list(self.clusters),
            "refused": list(self.refused),
        }

    def lines(self) -> list[str]:
        """The same in words, for a terminal."""
        said = []
        for reach in Reach:
            found = [one for one in self.changes if one.reach is reach]
            if found:
                said += [f"Changes that reach {reach}:", *(f"  {one.words()}" for one in found)]
        if self.whole:
            said += ["Every part restarts, because of", *(f"  {why}" for why in self.whole)]
        elif self.parts:
            said += [f"Parts that restart: {', '.join(self.parts)}"]
        if self.restart:
            said += [f"These servers go on as they are until they are restarted: {', '.join(self.restart)}"]
        if self.clusters:
            said += [f"These go on as they are: {', '.join(self.clusters)}"]
        return said


def plan(
    before: Served,
    after: Served,
    running: Sequence[str] = (),
    present: Collection[str] | None = None,
    started: Mapping[tuple[str, str], Started] | None = None,
) -> Plan:
    """What turns `before` into `after` while `running` goes on (ids of servers and clusters, as `status` has them).

    `present`: the parts that this platform has; None for all that there are. `started`: what is known of the servers,
    by owner and name; one of which nothing is known is taken to be concerned by every change that is for new servers.
    """
    changes, parts, whole = [], set(), []
    for key, old, new in differences(before.site, after.site):
        rule = rule_of(key) or Rule(Reach.NOW, whole=True)
        changes.append(Change(key, _shown(key, old), _shown(key, new), rule.reach))
        parts |= set(rule.parts)
        if rule.whole:
            whole.append(key)
    if _turned_off_or_on(before.site, after.site):
        whole.append("notebooks.idle_timeout")
    for slug in sorted(set(before.environments) & set(after.environments)):
        if before.environments[slug] != after.environments[slug]:
            old, new = before.environments[slug], after.environments[slug]
            changes.append(Change(f"environment of profile {slug}", old, new, _ENVIRONMENT.reach))
            parts |= set(_ENVIRONMENT.parts)
    whole += [
        f"--{name.replace('_', '-')}"
        for name in _WHOLE_OPTIONS
        if before.options.get(name) != after.options.get(name)
    ]
    if before.program != after.program:
        versions = {before.version, after.version}
        whole.append(
            "another tidehub "
            + (f"{before.version} -> {after.version}" if len(versions) > 1 else "(its source)")
        )
    ids = [one for one in running if one.startswith("server:")]
    servers = tuple(server_name(one) for one in ids)
    clusters = tuple(one for one in running if not one.startswith("server:"))
    reached = {one.reach for one in changes}
    concerned = _concerned(before, after, ids, started or {}, unknown=Reach.SERVERS in reached)
    moved = _base_path(before.site) != _base_path(after.site)
    refused = []
    if before.site["dask"]["engine"] == "gateway" != after.site["dask"]["engine"] and clusters:
        refused.append(f"dask.engine: clusters run that nobody could end any more ({', '.join(clusters)})")
    if moved and (servers or clusters):
        refused.append(
            "site.url: servers and clusters that run answer below another path only "
            f"({', '.join([*servers, *clusters])})"
        )
    return Plan(
        changes=tuple(changes),
        parts=tuple(sorted(parts if present is None else parts & set(present))),
        whole=tuple(whole),
        restart=tuple(map(server_name, concerned)),
        clusters=clusters if Reach.CLUSTERS in reached else (),
        refused=tuple(refused),
    )


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Keys that differ, with both values; None for what is not there. Entries of a list are known by their name."""
    for name in sorted({*before, *after}):
        yield from _differences(name, before.get(name), after.get(name))


def _differences(key: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    if old == new:
        return
    if not key.endswith("]"):
        # A section that comes or goes is its keys; an entry of a list is one thing.
        old, new = (
            ({} if one is None and isinstance(other, Mapping) else one)
            for one, other in ((old, new), (new, old))
        )
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted({*old, *new}):
            yield from _differences(f"{key}.{name}", old.get(name), new.get(name))
    elif (olds := _entries(old)) is not None and (news := _entries(new)) is not None and (olds or news):
        for name in dict.fromkeys([*olds, *news]):
            yield from _differences(f"{key}[{name}]", olds.get(name), news.get(name))
    else:
        yield key, old, new


def _entries(value: Any) -> dict[str, Any] | None:
    """The entries of a list of sections by name; None for another value, or where names are not their own."""
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, Mapping) for one in value):
        return None
    named = {str(one.get("name") or one.get("group")): one for one in value}
    return named if len(named) == len(value) else None


def _concerned(
    before: Served,
    after: Served,
    ids: Sequence[str],
    started: Mapping[tuple[str, str], Started],
    *,
    unknown: bool,
) -> Iterator[str]:
    """The servers among `ids` that would not be the same if they started now; `unknown` is said of all others."""
    try:
        old, new = (Site.model_validate(one.site) for one in (before, after))
    except ValueError:  # an earlier tidehub's site, which had other keys
        started = {}
    for one in ids:
        if (server := started.get(_owner_and_name(one))) is None:
            concerned = unknown
        else:
            kept = fixed_at_start(old, before.environments, server)
            concerned = kept != fixed_at_start(new, after.environments, server)
        if concerned:
            yield one


def _owner_and_name(reservation: str) -> tuple[str, str]:
    _, user, server = reservation.split(":", 2)
    return user, server


def server_name(reservation: str) -> str:
    """`server:alice:gpu` as users say it: `alice/gpu`, or `alice` for the one without a name."""
    user, server = _owner_and_name(reservation)
    return f"{user}/{server}" if server else user


def _turned_off_or_on(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether the culler is a part before or after, and not both."""
    old, new = (
        site["notebooks"]["idle_timeout"] or site["notebooks"].get("max_age") for site in (before, after)
    )
    return bool(old) != bool(new)


def _base_path(site: Mapping[str, Any]) -> str:
    url = str(site["site"].get("url") or "")
    return url.partition("://")[2].partition("/")[2].strip("/")


def _shown(key: str, value: Any) -> str:
    if value is None:
        return "none"
    if key.startswith(_PRIVATE):
        return "(not shown)"
    if isinstance(value, Mapping):
        return "there"
    name = re.sub(r"\[[^]]*\]", "[]", key)
    kind = next((one.kind for one in all_keys() if one.name == name), "")
    try:
        text = written(value, kind)
    except (TypeError, ValueError, AttributeError):
        text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
