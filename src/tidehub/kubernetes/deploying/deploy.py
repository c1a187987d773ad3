"""Brings a site about: `deploy`, and with what an upgrade needs before, `upgrade`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from tidehub import __version__
from tidehub.kubernetes.deploying import copies
from tidehub.kubernetes.deploying.copies import BackUp
from tidehub.kubernetes.deploying.journal import Operation
from tidehub.kubernetes.deploying.moves import Charts, Homes, Move, moves
from tidehub.kubernetes.deploying.record import Deployed, Record
from tidehub.kubernetes.deploying.running import Result, Step, Watcher, Work, run_steps
from tidehub.kubernetes.deploying.steps.crds import Crds
from tidehub.kubernetes.deploying.steps.namespace import ensure_namespace
from tidehub.kubernetes.deploying.steps.objects import OwnObjects, remembered
from tidehub.kubernetes.deploying.steps.ownership import place_of, refuse, verdicts
from tidehub.kubernetes.deploying.steps.readiness import Ask, Readiness
from tidehub.kubernetes.deploying.steps.releases import HelmRelease, Rollout
from tidehub.kubernetes.deploying.steps.retiring import Retire
from tidehub.kubernetes.deploying.steps.saving import Save, saved_path
from tidehub.kubernetes.deploying.stored import live_release
from tidehub.kubernetes.deploying.waiting import Wanted
from tidehub.kubernetes.deploying.words import Refused, now
from tidehub.kubernetes.homes.carried import finds_homes
from tidehub.kubernetes.ownership import other_verdicts
from tidehub.kubernetes.rendering.model import Rendered
from tidehub.site.model.overrides import Chart


@dataclass(frozen=True)
class Deployment:
    """The steps that make a namespace what was rendered."""

    rendered: Rendered = field(repr=False)
    operation: Operation = "deploy"
    back_up: BackUp = copies.back_up
    ask: Ask | None = None
    before_releases: tuple[Step, ...] = ()
    """What an upgrade does between the copy and the first release."""
    must_save: bool = False

    @property
    def crds(self) -> Crds:
        return Crds(self.rendered.crds)

    @property
    def objects(self) -> OwnObjects:
        return OwnObjects(self.rendered.objects)

    @property
    def releases(self) -> tuple[HelmRelease, ...]:
        return tuple(HelmRelease(one) for one in self.rendered.releases)

    def steps(self) -> tuple[Step, ...]:
        """In the order of their doing: CRDs, our objects, then release by release, the hub first."""
        brought: list[Step] = []
        for release, rendered in zip(self.releases, self.rendered.releases, strict=True):
            brought += [release, Rollout(rendered.release.name, Wanted.of(rendered.objects))]
        changing: tuple[Step, ...] = (self.crds, self.objects, *self.releases)
        retire = Retire(tuple(one.release.name for one in self.rendered.releases))
        save = Save(
            tuple(one.release.name for one in self.rendered.releases),
            (*changing, retire),
            self.back_up,
            self.must_save,
        )
        steps: tuple[Step, ...] = (save, self.crds, self.objects, *self.before_releases, *brought, retire)
        url = self.rendered.platform.site.site.url
        if url is None:
            return steps
        address = url if url.endswith("/") else f"{url}/"
        return (*steps, Readiness(address, tuple(step.name for step in steps), self.ask))

    def check(self, work: Work) -> None:
        """Raises `Refused` with all that the namespace or the cluster holds and that is not ours. Reads only."""
        wanted = {one.release.name: one.release.chart for one in self.rendered.releases}
        found = [*other_verdicts(place_of(work), wanted).values()]
        for release in self.releases:
            found += release.verdicts(work)
        found += verdicts(work, None, self.rendered.objects)
        refuse(work, [*found, *(self.crds.verdicts(work) or ())])

    def reached(self, work: Work, record: Record) -> Record:
        """The record with the state that is there now. One that is as the last one does not count as another."""
        platform = self.rendered.platform
        deployed = Deployed(
            revision=record.next_revision,
            at=now(),
            by=work.holder.user,
            tidehub=__version__,
            release_set=platform.release_set,
            model=platform.model,
            releases=tuple(
                state for one in self.rendered.releases if (state := record.release(one.release.name))
            ),
            objects=remembered(self.rendered.objects),
            operation=self.operation,
            saved=str(saved_path(record.journal.note_of("save")) or "") if record.journal else "",
        )
        record = replace(record, kept=())
        last = record.deployed
        if last is not None and (last.releases, last.objects) == (deployed.releases, deployed.objects):
            return record
        return record.reached(deployed)


def deploy(
    rendered: Rendered,
    work: Work,
    *,
    back_up: BackUp = copies.back_up,
    ask: Ask | None = None,
    watch: Watcher = lambda step, moment: None,
) -> Result:
    """Makes the namespace what was rendered.

    Raises `Refused` where something stands against it or it is an upgrade with consequences, `Locked` where somebody
    else works there, `Failure` where it failed, `Interrupted`.
    """
    deployment = Deployment(rendered, "deploy", back_up, ask)

    def checks(work: Work) -> None:
        deployment.check(work)
        refuse_upgrades(work, consequences(work, rendered))

    return run_steps(
        work,
        "deploy",
        deployment.steps(),
        ensure_namespace=ensure_namespace,
        checks=checks,
        finish=deployment.reached,
        back=go_back,
        watch=watch,
    )


def consequences(work: Work, rendered: Rendered, *, database: str | None = None) -> tuple[Move, ...]:
    """What going from the charts that are there to those that were rendered means. Reads only."""
    before = charts_there(work, [one.release.name for one in rendered.releases])
    after = Charts.of((one.release.chart, one.release.version) for one in rendered.releases)
    if before == Charts() or (before == after and database is None):
        return ()
    return consequences_between(
        work,
        before,
        after,
        database=database,
        overrides=_overrides(rendered),
        finds_homes=finds_homes(_hub_value(rendered)),
    )


def consequences_between(
    work: Work,
    before: Charts,
    after: Charts,
    *,
    database: str | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    finds_homes: bool = True,
) -> tuple[Move, ...]:
    """The same for charts that are known already."""
    pvcs = work.cluster.find("v1", "PersistentVolumeClaim", work.namespace)
    return moves(
        before,
        after,
        homes=Homes.of(pvcs),
        overrides=overrides,
        database=database,
        finds_homes=finds_homes,
    )


def charts_there(work: Work, names: Sequence[str]) -> Charts:
    """The charts of the releases that are there."""
    found = [live for name in names if (live := live_release(work, name)) is not None]
    return Charts.of((one.chart, one.version) for one in found)


def refuse_upgrades(work: Work, found: Sequence[Move]) -> None:
    """Raises `Refused` for what `deploy` does not do by the way. An upgrade that was begun is not gone on with here."""
    if refused := [one for one in found if one.weight == "refused"]:
        raise Refused(refused[0].what, fix=refused[0].fix)
    serious = [one for one in found if one.weight == "upgrade"]
    if serious:
        raise Refused(
            f"this is an upgrade: {serious[0].what}",
            expected="the charts that are there, or only such newer ones as change nothing for good",
            fix=f"{work.commands.other('upgrade')} (it backs up first)",
        )


def go_back(work: Work) -> str:
    """The command that goes back to the last state that was reached; without one, the same again."""
    if work.record.deployed is None:
        return work.commands.again
    return work.commands.other("rollback")


def _overrides(rendered: Rendered) -> dict[str, Mapping[str, Any]]:
    overrides = rendered.platform.site.overrides
    if overrides is None:
        return {}
    return {chart: overrides.helm.of(chart) for chart in get_args(Chart)}


def _hub_value(rendered: Rendered, *path: str) -> Any:
    """A value below `hub` of the jupyterhub chart, as the site sets it; None where it does not."""
    for one in rendered.releases:
        found: Any = one.release.values
        found = found.get("jupyterhub", found)
        for part in ("hub", *path):
            found = found.get(part) if isinstance(found, Mapping) else None
        if found is not None:
            return found
    return None
