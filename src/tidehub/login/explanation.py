"""Why a user may enter or not, and what they have: everything that `tidehub explain-login` says. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tidehub.login import rule
from tidehub.login.admission import decide, rule_of
from tidehub.login.entitled import EVERYBODY, Entitled, entitled
from tidehub.login.rule import Decision
from tidehub.site.model import Site
from tidehub.site.model.dask import Dask
from tidehub.site.units import format_cores, format_size


@dataclass(frozen=True)
class Explanation:
    """The outcome for one user. `presented` is the name in the claims, `decision.username` the hub's."""

    site: Site
    decision: Decision
    presented: str
    subject: str
    meets: Mapping[str, tuple[str, ...]]
    """Each membership understood, and the keys of the site that it meets."""
    user: Entitled | None
    """None for who is not admitted."""


def explain(claims: Mapping[str, Any], site: Site, *, name: str | None = None) -> Explanation:
    """Why, and what follows. `name` is the user's name at a hub that knows them already; the rule means that one.

    The operator's own words (`login.names`, `login.block`) count as they do at the hub. Never raises for claims.
    """
    login = site.login
    presented, _ = rule.username_of(claims, login.username_claim)
    sub = claims.get("sub")
    subject = sub if isinstance(sub, str) else ""
    name = name or login.names.get(subject, "").lower() or presented
    known = {**claims, login.username_claim: name} if name else claims
    decision = decide(known, login)
    if subject in login.block or name in {entry.lower() for entry in login.block}:
        # As the hub's authenticator refuses them.
        reason = f"{name} is blocked by the administrators of this site."
        decision = decision._replace(admitted=False, admin=False, rule="login.block", reason=reason)
    understood = rule.read(claims).understood
    everything = rule.requirements(group for _, groups in _lists(site) for group in groups)
    more = rule.look_alikes(understood, everything, roles=not decision.admitted)
    decision = decision._replace(remarks=tuple(dict.fromkeys((*decision.remarks, *more))))
    user = entitled(site, decision.username, decision.groups) if decision.admitted else None
    meets = {membership.canonical: tuple(_met(site, membership)) for membership in understood}
    return Explanation(site, decision, presented, subject, meets, user)


def _lists(site: Site) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every list of memberships in the site, with its key."""
    yield "login.admins.groups", site.login.admins.groups
    yield "login.allow.groups", site.login.allow.groups
    for index, profile in enumerate(site.notebooks.profiles):
        if profile.allow is not None:
            yield f"notebooks.profiles[{index}].allow.groups", profile.allow.groups
    for index, group_rule in enumerate(site.login.groups):
        yield f"login.groups[{index}]", (group_rule.group,)


def _met(site: Site, membership: rule.Entitlement) -> Iterator[str]:
    for key, groups in _lists(site):
        for place, group in enumerate(groups):
            if rule.holder((membership,), group):
                yield key if key.endswith("]") else f"{key}[{place}]"


# --- for programs -----------------------------------------------------------------------------


def as_dict(found: Explanation) -> dict[str, Any]:
    """For `--json`. Sizes are bytes; keys are always there."""
    decision, user = found.decision, found.user
    return {
        "version": 1,
        "admitted": decision.admitted,
        "admin": decision.admin,
        "rule": decision.rule or None,
        "reason": decision.reason,
        "user": decision.username or None,
        "presented_name": found.presented or None,
        "sub": found.subject or None,
        "memberships": [{"urn": urn, "meets": list(keys)} for urn, keys in found.meets.items()],
        "skipped": [skipped._asdict() for skipped in decision.skipped],
        "remarks": list(decision.remarks),
        "assurance": list(decision.assurance),
        "assurance_required": rule_of(found.site.login)["allow"]["assurance"],
        "profiles": [
            {
                "slug": server.profile.slug,
                "name": server.profile.name,
                "by": server.by,
                "memory": server.memory.model_dump(),
                "cpu": server.cpu.model_dump(),
            }
            for server in (user.servers if user else ())
        ],
        "dask": None if user is None or user.dask is None else _dask_as_dict(user, user.dask),
        "grants": [
            {"key": grant.key, "value": grant.value, "by": grant.by}
            for grant in (user.grants if user else ())
        ],
    }


def _dask_as_dict(user: Entitled, dask: Dask) -> dict[str, Any]:
    return {
        "by": user.dask_by,
        "worker": dask.worker.model_dump(),
        "cluster": dask.cluster.model_dump(),
        "per_user": dask.per_user.model_dump(),
    }


# --- as text --------------------------------------------------------------------------------


def lines(found: Explanation) -> list[str]:
    """The explanation for the operator."""
    decision = found.decision
    verdict = "ADMITTED" if decision.admitted else "REFUSED"
    said = [f"{verdict}: {decision.reason}", ""]
    said += _table(
        [
            ("user", _who(found)),
            ("rule", decision.rule or "no rule admits this user"),
            ("administrator", "yes" if decision.admin else "no"),
            *_assurance(found),
        ]
    )
    if not found.meets and not decision.skipped:
        said += ["", f"Memberships: none at all in {' or '.join(rule.CLAIMS)}"]
    if found.meets:
        said += ["", "Memberships understood (without the part after #)"]
        said += _table([(urn, _meets(keys)) for urn, keys in found.meets.items()])
    if decision.skipped:
        said += ["", "Skipped: these never admit a user"]
        said += _table([(repr(skipped.value), skipped.reason) for skipped in decision.skipped])
    if decision.remarks:
        said += ["", "Possible mistakes", *(f"  {remark}" for remark in decision.remarks)]
    if found.user is not None:
        said += ["", *_has(found, found.user)]
    return said


def _who(found: Explanation) -> str:
    name, aside = found.decision.username or "without a usable name", []
    if found.presented and found.presented != found.decision.username:
        aside.append(f"the provider calls them {found.presented}")
    if found.subject:
        aside.append(f"sub {rule.shown(found.subject)}")
    return f"{name} ({', '.join(aside)})" if aside else name


def _assurance(found: Explanation) -> Iterator[tuple[str, str]]:
    wanted = found.site.login.allow.assurance
    if not wanted and not found.decision.assurance:
        return
    yield "assurance", ", ".join(found.decision.assurance) or f"none sent ({rule.ASSURANCE_CLAIM})"
    yield "", f"wanted: one of {', '.join(wanted)}" if wanted else "none is wanted here"


def _meets(keys: tuple[str, ...]) -> str:
    return f"meets {', '.join(keys)}" if keys else "not used by this site"


def _has(found: Explanation, user: Entitled) -> Iterator[str]:
    yield "Profiles"
    rows = [(server.profile.slug, f"{_size(server)}; {_because(server.by)}") for server in user.servers]
    theirs = {server.profile.slug for server in user.servers}
    others = [profile for profile in found.site.notebooks.profiles if profile.slug not in theirs]
    rows += [(profile.slug, "not shown to them, and refused") for profile in others]
    yield from _table(rows)
    yield ""
    yield from _dask(found, user)
    if user.grants:
        yield ""
        yield "Beyond everybody"
        yield from _table([(grant.key, f"{grant.value}, by {grant.by}") for grant in user.grants])


def _size(server: Any) -> str:
    memory, cpu = server.memory, server.cpu
    return (
        f"memory {format_size(memory.guarantee)} to {format_size(memory.limit)}, "
        f"CPU {cpu.guarantee:g} to {format_cores(cpu.limit)}"
    )


def _because(by: str) -> str:
    return "open to everybody" if by == EVERYBODY else f"by {by}"


def _dask(found: Explanation, user: Entitled) -> Iterator[str]:
    dask = user.dask
    if dask is None:
        why = "this site has none" if found.site.dask.engine == "none" else "only for other groups"
        yield f"Dask clusters: no, {why}"
        return
    one, all_of_them = dask.cluster, dask.per_user
    yield f"Dask clusters: yes, {_because(user.dask_by)}"
    totals = [
        f"{format_cores(all_of_them.max_cores)}" if all_of_them.max_cores is not None else "",
        f"{format_size(all_of_them.max_memory)}" if all_of_them.max_memory is not None else "",
    ]
    together = ", together at most " + " and ".join(filter(None, totals)) if any(totals) else ""
    yield from _table(
        [
            ("worker", f"up to {format_cores(dask.worker.cores.max)}, {format_size(dask.worker.memory.max)}"),
            (
                "cluster",
                f"up to {one.max_workers} workers, {format_cores(one.max_cores)}, {format_size(one.max_memory)}",
            ),
            ("in all", f"{all_of_them.max_clusters} at once{together}"),
        ]
    )


def _table(rows: list[tuple[str, str]]) -> list[str]:
    width = min(72, max((len(left) for left, _ in rows), default=0))
    return [f"  {left:<{width}}  {right}" for left, right in rows]
