"""Objects and releases of others that conflict with the site's, and the state of its releases. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tidehub import program
from tidehub.kubernetes.ownership import Verdict, objections, other_verdicts, release_verdict
from tidehub.kubernetes.planning.facts import Facts
from tidehub.kubernetes.planning.model import Finding, Kind
from tidehub.site.charts import parts


def findings(facts: Facts) -> Iterator[Finding]:
    """All of them, in no order."""
    yield from _refused("conflict", (one.verdict for one in facts.observations if one.verdict is not None))
    wanted = {one.release.name: one.release.chart for one in facts.rendered.releases}
    others = other_verdicts(facts.place, wanted)
    yield from _refused("model", others.values())
    for name, one in others.items():
        if one.follows == "leave":
            yield Finding(
                "leftover", "notice", f"{_capital(one.what)} is in the namespace, and the site has none of that name.",
                "A deployment leaves it as it is.",
                f"if nobody needs it: helm uninstall {name} -n {facts.namespace}",
            )  # fmt: skip
    releases = [release_verdict(name, chart, facts.place) for name, chart in wanted.items()]
    yield from _refused("adoption", releases)
    for one in releases:
        if one.follows == "take-over":
            yield Finding(
                "adoption", "notice", f"{_capital(one.what)} would be taken over: tidehub did not make it."
            )
    yield from _states(facts)
    yield from _elsewhere(facts)


def _refused(kind: Kind, found: Iterable[Verdict]) -> Iterator[Finding]:
    for one in objections(found):
        yield Finding(kind, "refusal", f"{_capital(one.what)}.", fix=one.fix, objects=one.ids)


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


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
