"""One comparison of a render with a cluster: what is asked, and what the answers come to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from tidehub.helm.engine import Helm, ReleaseRecord
from tidehub.kubernetes.cluster.port import Cluster
from tidehub.kubernetes.objects import Object, ObjectId, identify
from tidehub.kubernetes.planning import (
    gathering,
    rules_crds,
    rules_data,
    rules_keys,
    rules_ownership,
    rules_refusals,
    rules_restarts,
    rules_servers,
)
from tidehub.kubernetes.planning.conceal import Concealer
from tidehub.kubernetes.planning.facts import Facts
from tidehub.kubernetes.planning.lookups import looked_up
from tidehub.kubernetes.planning.model import (
    Drift,
    Finding,
    ObjectChange,
    Plan,
    ReleaseAction,
    ReleaseChange,
)
from tidehub.kubernetes.planning.observe import LiveObjects, Observation, Observer, together
from tidehub.kubernetes.planning.outcome import drifts, object_change, objects_of
from tidehub.kubernetes.planning.subjects import subjects
from tidehub.kubernetes.rendering.model import Rendered, RenderedRelease
from tidehub.secrets.store import texts

_RULES: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    rules_ownership.findings,
    rules_refusals.findings,
    rules_data.findings,
    rules_keys.findings,
    rules_crds.findings,
    rules_restarts.findings,
    rules_servers.findings,
)
_WEIGHTS = ("refusal", "danger", "notice")
_KINDS = (
    "conflict", "model", "adoption", "pending", "unserved", "immutable", "refused", "data-loss", "namespace",
    "pvc-names", "keys", "downgrade", "database", "crd", "restart", "servers", "leftover", "untried",
)  # fmt: skip
"""Findings of the same weight come in this order."""


def compare_with_cluster(
    rendered: Rendered, cluster: Cluster, helm: Helm, threads: int, adopt: frozenset[str] = frozenset()
) -> Plan:
    """Asks, judges and hides the secrets. `plan.plan` says what it raises."""
    facts = ask(rendered, cluster, helm, threads, adopt)
    changes = [change for one in facts.observations if (change := object_change(one)) is not None]
    if facts.namespace_is_new:
        changes.insert(0, _namespace(facts.namespace))
    findings = [finding for rule in _RULES for finding in rule(facts)]
    found = Plan(
        site=rendered.platform.site.site.name,
        cluster=cluster.name,
        namespace=facts.namespace,
        model=rendered.platform.model,
        releases=(
            *(_release(one, facts, changes) for one in rendered.releases),
            *map(_retired, facts.retired),
        ),
        changes=tuple(changes),
        findings=tuple(sorted(findings, key=_order)),
        drift=tuple(drift for one in facts.observations for drift in drifts(one)),
        same=sum(_is_same(one) for one in facts.observations),
    )
    return _concealed(found, facts) if found.changes or found.findings or found.drift else found


def ask(
    rendered: Rendered, cluster: Cluster, helm: Helm, threads: int, adopt: frozenset[str] = frozenset()
) -> Facts:
    """Everything that the rules need: what is read is read at the same time, then all dry runs are. Nothing is written.

    Helm's programs start as slowly as many requests take: they start first, before anybody knows which releases are
    there, and live objects are read meanwhile.
    """
    namespace = rendered.platform.namespace
    url = rendered.platform.site.site.url
    names = [one.release.name for one in rendered.releases]
    live = LiveObjects(cluster)
    cluster.served()
    with ThreadPoolExecutor(threads, thread_name_prefix="plan") as pool:
        listed = pool.submit(helm.list, namespace)
        newest = {name: pool.submit(gathering.newest_manifest, helm, name, namespace) for name in names}
        asked_exists = pool.submit(gathering.namespace_exists, cluster, namespace)
        asked_record = pool.submit(gathering.deployments, cluster, namespace)
        asked_elsewhere = pool.submit(gathering.serving_elsewhere, cluster, url, namespace)
        asked_clusters = pool.submit(gathering.dask_clusters, cluster, namespace)
        for id in rendered.ids():
            pool.submit(live.fetch, id)
    exists, records, record = asked_exists.result(), listed.result(), asked_record.result()
    facts = Facts(rendered, (), records, record=record, adopt=adopt)
    present = [one for one in records if one.name in names and one.status != gathering.GONE]
    there = (*present, *facts.retired)
    read = {name: asked.result() for name, asked in newest.items()}
    found = together(
        [partial(gathering.last_objects, helm, one, read.get(one.name)) for one in there], threads
    )
    manifests = {one.name: objects for one, objects in zip(there, found, strict=True)}
    releases = together(
        [
            partial(looked_up, rendered, one, manifests.get(one.release.name, ()), helm)
            for one in rendered.releases
        ],
        threads,
    )
    observer = Observer(
        cluster,
        live,
        namespace,
        exists=exists,
        crds=rendered.crds,
        place=facts.place,
    )
    every = subjects(
        replace(rendered, releases=tuple(releases)), manifests, gathering.earlier_objects(record)
    )
    own = {identify(obj, namespace) for obj in rendered.objects}
    return replace(
        facts,
        observations=tuple(together([partial(observer.observe, one) for one in every], threads)),
        serving=() if any(one.name == names[0] for one in present) else asked_elsewhere.result(),
        clusters=asked_clusters.result(),
        namespace_is_new=not exists and ObjectId("v1", "Namespace", None, namespace) not in own,
    )


def _namespace(name: str) -> ObjectChange:
    return ObjectChange(ObjectId("v1", "Namespace", None, name), "namespace", "add")


def _release(one: RenderedRelease, facts: Facts, changes: Iterable[ObjectChange]) -> ReleaseChange:
    release = one.release
    record = facts.release_record(release.name)
    made = ReleaseChange(
        release.name,
        "install",
        release.chart,
        release.version,
        hooks=tuple(identify(hook, facts.namespace) for hook in one.hooks),
    )
    if record is None or record.status == gathering.GONE:
        return made
    action: ReleaseAction = "same"
    if record.status != "deployed":
        action = "finish"
    elif (
        (record.chart, record.chart_version) != (release.chart, release.version)
        or any(change.release == release.name for change in changes)
        or _was_otherwise(one, facts)
    ):
        action = "upgrade"
    return _as_it_is(made, record, action)


def _retired(record: ReleaseRecord) -> ReleaseChange:
    return _as_it_is(
        ReleaseChange(record.name, "remove", record.chart, record.chart_version), record, "remove"
    )


def _as_it_is(made: ReleaseChange, record: ReleaseRecord, action: ReleaseAction) -> ReleaseChange:
    return replace(
        made,
        action=action,
        old_chart=record.chart,
        old_version=record.chart_version,
        revision=record.revision,
        status=record.status,
    )


def _was_otherwise(one: RenderedRelease, facts: Facts) -> bool:
    """Whether tidehub deployed the release with other values or another archive, though no object tells."""
    from tidehub.kubernetes.deploying.steps.releases import wanted_state

    before = facts.record.release(one.release.name) if facts.record is not None else None
    return before is not None and replace(wanted_state(one), revision=before.revision) != before


def _is_same(one: Observation) -> bool:
    return (
        one.subject.new is not None
        and one.live is not None
        and not one.changes
        and one.refusal is None
        and not one.foreign
    )


def _order(finding: Finding) -> tuple[int, int]:
    return _WEIGHTS.index(finding.weight), _KINDS.index(finding.kind)


def _concealed(found: Plan, facts: Facts) -> Plan:
    """The plan without secrets: they are hidden by what they are, not by where they should be."""
    hide = Concealer(
        (secret for one in facts.rendered.platform.releases for secret in texts(one.secrets)),
        (obj for one in facts.observations for obj in objects_of(one)),
        _names(facts),
    )
    return replace(
        found,
        findings=tuple(
            replace(one, what=hide.text(one.what), means=hide.text(one.means), fix=hide.text(one.fix))
            for one in found.findings
        ),
        changes=tuple(_change_concealed(one, hide) for one in found.changes),
        drift=tuple(_drift_concealed(one, hide) for one in found.drift),
    )


def _change_concealed(one: ObjectChange, hide: Concealer) -> ObjectChange:
    return replace(
        one,
        fields=tuple(replace(field, change=hide.change(one.id, field.change)) for field in one.fields),
        summary=tuple(hide.text(line) for line in one.summary),
    )


def _drift_concealed(one: Drift, hide: Concealer) -> Drift:
    return one if one.change is None else replace(one, change=hide.change(one.id, one.change))


def _names(facts: Facts) -> Iterator[str]:
    """Words that a plan is made of, whatever a Secret holds."""
    yield from (facts.namespace, facts.rendered.platform.model)
    for release in facts.rendered.platform.releases:
        yield from (release.name, release.chart, release.version)
    for record in facts.records:
        yield from (record.name, record.chart, record.chart_version)
    for obj in (obj for one in facts.observations for obj in objects_of(one)):
        yield from (str(obj["kind"]), str(obj["metadata"]["name"]), _component(obj))


def _component(obj: Object) -> str:
    labels = obj["metadata"].get("labels") or {}
    return str(labels.get("app.kubernetes.io/component") or labels.get("component") or "")
