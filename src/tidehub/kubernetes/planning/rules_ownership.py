"""Objects and releases of others that conflict with the site's, and the state of its releases. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from tidehub import program
from tidehub.kubernetes.objects import ObjectId
from tidehub.kubernetes.planning.facts import Facts
from tidehub.kubernetes.planning.model import Finding
from tidehub.site.charts import parts

_OURS = frozenset({"jupyterhub", "dask-gateway", "daskhub", "dask-kubernetes-operator"})
"""Charts that a site may have as releases."""


def findings(facts: Facts) -> Iterator[Finding]:
    """All of them, in no order."""
    yield from _conflicts(facts)
    yield from _model(facts)
    yield from _states(facts)
    yield from _elsewhere(facts)
    yield from _not_made_here(facts)


def _conflicts(facts: Facts) -> Iterator[Finding]:
    by_owner: dict[tuple[str, str], list[ObjectId]] = {}
    for one in facts.observations:
        if one.foreign:
            wanted_by = one.subject.release or "tidehub"
            by_owner.setdefault((one.owner, wanted_by), []).append(one.subject.id)
    for (owner, wanted_by), ids in by_owner.items():
        owner_words = f"belong to {owner}" if owner else "belong to no release: somebody created them by hand"
        if len(ids) == 1:
            owner_words = owner_words.replace("belong", "belongs", 1).replace("created them", "created it")
        yield Finding(
            "conflict", "refusal", f"{_counted(ids)} in the cluster already and {owner_words}.",
            "Helm refuses to install over objects of others." if wanted_by != "tidehub" else "",
            _way_out(ids, owner, wanted_by, facts.namespace), tuple(ids),
        )  # fmt: skip


def _way_out(ids: list[ObjectId], owner: str, wanted_by: str, namespace: str) -> str:
    names = [f"{id.kind}/{id.name}" for id in ids[:4]]
    adopt = f"take it over: {program.command('deploy')} " + " ".join(f"--adopt {name}" for name in names)
    if owner.startswith("release ") and f"namespace {namespace}" not in owner:
        return (
            "what counts for the whole cluster is named after its release, so there can be one such release in a "
            "cluster: uninstall the other one, or use another cluster"
        )
    if owner.startswith("release "):
        return f"uninstall {owner.split()[1]} (what it holds goes with it: back up first), or {adopt}"
    return f"remove what nobody needs, or {adopt}"


def _model(facts: Facts) -> Iterator[Finding]:
    model = facts.rendered.platform.model
    others = [one for one in facts.records if one.name not in facts.releases and one.status != "uninstalled"]
    rivals = [
        one
        for one in others
        if (one.chart == "daskhub") == (model == "split") and one.chart in ("daskhub", "jupyterhub")
    ]
    for one in rivals:
        yield Finding(
            "model", "refusal",
            f"The namespace {facts.namespace} holds {one.name} ({one.chart} {one.chart_version}), and the site is of "
            f"the model {model}.",
            "One release cannot take over the objects of another: the old one has to go first, and its PVC of the "
            "hub's database goes with it unless it is kept.",
            f"back up ({program.command('backup')}), uninstall {one.name} keeping the PVCs, deploy, restore; "
            "homes stay in their "
            "PVCs",
        )  # fmt: skip
    for one in others:
        if one not in rivals and one not in facts.retired and one.chart in _OURS:
            yield Finding(
                "leftover", "notice",
                f"The release {one.name} ({one.chart} {one.chart_version}) is in the namespace, and the site has none "
                "of that name.",
                "A deployment leaves it as it is.",
                f"if nobody needs it: helm uninstall {one.name} -n {facts.namespace}",
            )  # fmt: skip


def _states(facts: Facts) -> Iterator[Finding]:
    for one in facts.rendered.releases:
        record = facts.release_record(one.release.name)
        if record is None or record.status == "uninstalled":
            continue
        if record.pending:
            yield Finding(
                "pending", "danger",
                f"The last operation on {record.name} did not finish: Helm calls it {record.status}.",
                "It is still running elsewhere, or it was interrupted. Helm refuses everything until that is settled.",
                "if nobody is working on it, deploy: it continues from there",
            )  # fmt: skip
        elif record.status != "deployed":
            yield Finding(
                "pending", "notice", f"The last operation on {record.name} left it {record.status}.",
                "What is compared here is the last revision that worked.", "deploy: it continues from there",
            )  # fmt: skip
        if record.chart == one.release.chart and parts(record.chart_version) > parts(one.release.version):
            yield Finding(
                "downgrade", "danger",
                f"{record.name} goes back from {record.chart} {record.chart_version} to {one.release.version}.",
                "Charts are made to be upgraded: what the newer one changed in the cluster may not fit the older one.",
                f"back up first; `{program.command('rollback')}` goes back to a state that worked",
            )  # fmt: skip
        elif record.chart != one.release.chart:
            yield Finding(
                "model", "danger",
                f"The release {record.name} would change its chart from {record.chart} to {one.release.chart}.",
                "Objects of the old chart that the new one does not have are removed.", "back up first",
            )  # fmt: skip


def _elsewhere(facts: Facts) -> Iterator[Finding]:
    for namespace in facts.serving:
        yield Finding(
            "namespace", "danger",
            f"Something in the namespace {namespace} serves the site's address already, and {facts.namespace} has no "
            "hub.",
            "If that is this platform, it starts anew here: its homes and its database stay behind, and two objects "
            "ask for one address.",
            f"set kubernetes.namespace: {namespace}, or move it with {program.command('backup')} and restore",
        )  # fmt: skip


def _not_made_here(facts: Facts) -> Iterator[Finding]:
    known = {one.name for one in facts.record.releases} if facts.record is not None else set()
    records = [facts.release_record(one.release.name) for one in facts.rendered.releases]
    strangers = [
        one for one in records if one is not None and one.status != "uninstalled" and one.name not in known
    ]
    adopt = " ".join(f"--adopt {one.name}" for one in strangers)
    for record in strangers:
        yield Finding(
            "adoption", "danger",
            f"tidehub did not make the release {record.name} ({record.chart} {record.chart_version}).",
            "A deployment takes it over only where that is said.",
            f"compare what is below, then: {program.command('deploy')} {adopt}",
        )  # fmt: skip


def _counted(ids: list[ObjectId]) -> str:
    return f"{ids[0]} is" if len(ids) == 1 else f"{len(ids)} objects ({_named(ids)}) are"


def _named(ids: list[ObjectId]) -> str:
    shown = ", ".join(str(id) for id in ids[:4])
    return f"{shown} and {len(ids) - 4} more" if len(ids) > 4 else shown
