"""Goes back to a state that was reached before: `rollback`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from tidehub import __version__, program
from tidehub.errors import UsageError
from tidehub.helm.problems import ReleaseNotFound
from tidehub.kubernetes.deploying import copies
from tidehub.kubernetes.deploying.copies import BackUp
from tidehub.kubernetes.deploying.deploy import charts_there, consequences_between
from tidehub.kubernetes.deploying.moves import Charts, Homes, moves
from tidehub.kubernetes.deploying.record import Deployed, Record, ReleaseState, read_record
from tidehub.kubernetes.deploying.running import Result, Step, Watcher, Work, run_steps
from tidehub.kubernetes.deploying.steps.accounts import forget_accounts
from tidehub.kubernetes.deploying.steps.database import PutDatabaseBack
from tidehub.kubernetes.deploying.steps.namespace import ensure_namespace
from tidehub.kubernetes.deploying.steps.objects import OwnObjects
from tidehub.kubernetes.deploying.steps.releases import Rollout
from tidehub.kubernetes.deploying.steps.retiring import Retire
from tidehub.kubernetes.deploying.steps.saving import Save, saved_path
from tidehub.kubernetes.deploying.stored import free, live_release
from tidehub.kubernetes.deploying.waiting import Wanted
from tidehub.kubernetes.deploying.words import Refused, now
from tidehub.kubernetes.homes.carried import finds_homes
from tidehub.kubernetes.objects import Object, read_manifest
from tidehub.kubernetes.planning.facts import hub_values

Database = Path | Literal["as it is"] | None
"""A backup to put back, the database as it is, or the operator's decision is asked for where it matters."""


@dataclass(frozen=True)
class HelmRollback:
    """Brings one release back to one of its revisions."""

    target: ReleaseState

    @property
    def name(self) -> str:
        return f"release {self.target.name}"

    @property
    def title(self) -> str:
        return f"Release {self.target.name}"

    def needed(self, work: Work) -> bool:
        """Whether it is anything else than that revision, or a rollback to it."""
        live = live_release(work, self.target.name)
        known = work.record.release(self.target.name)
        if live is None or live.status != "deployed" or known is None:
            return True
        return live.revision != known.revision or replace(self.target, revision=known.revision) != known

    def run(self, work: Work) -> str:
        """Raises `HelmProblem`; `TidehubError` where Helm has forgotten that revision."""
        target = self.target
        freed = free(work, target.name)
        known = work.record.release(target.name)
        started = replace(target, values="", manifest="", revision=known.revision if known else 0)
        work.write(work.record.with_release(started))
        work.ensure()
        try:
            record = work.helm.rollback(
                target.name, work.namespace, target.revision, timeout=work.options.timeout
            )
        except ReleaseNotFound as error:
            raise Refused(
                f"Helm has no revision {target.revision} of {target.name} any more",
                expected=f"one of the states of `{program.command('status')}`",
                fix="deploy the site file of that time again",
            ) from error
        work.facts.clear()
        forget_accounts(work, target.name)
        work.write(work.record.with_release(replace(target, revision=record.revision)))
        was = f" (it was left {freed})" if freed else ""
        return f"{target.chart} {target.version} as of revision {target.revision}, now {record.revision}{was}"


@dataclass(frozen=True)
class Rollback:
    """The steps back to a state."""

    target: Deployed
    back_up: BackUp = copies.back_up
    database: PutDatabaseBack | None = None
    wanted: tuple[tuple[str, Wanted], ...] = field(default=(), repr=False)

    def steps(self) -> tuple[Step, ...]:
        """Releases in reverse order: the gateway lets go before the hub that it asks changes."""
        own = OwnObjects(self.target.objects)
        wanted = dict(self.wanted)
        releases: list[Step] = [HelmRollback(one) for one in reversed(self.target.releases)]
        waits: list[Step] = [
            Rollout(one.name, wanted[one.name]) for one in self.target.releases if one.name in wanted
        ]
        retire = Retire(tuple(one.name for one in self.target.releases))
        save = Save(
            tuple(one.name for one in self.target.releases),
            (*releases, retire, *((self.database,) if self.database else ())),
            self.back_up,
        )
        database: tuple[Step, ...] = (self.database,) if self.database else ()
        return (save, *database, *releases, retire, own, *waits)


def rollback(
    work: Work,
    *,
    to: int | None = None,
    database: Database = None,
    back_up: BackUp = copies.back_up,
    watch: Watcher = lambda step, moment: None,
) -> Result:
    """Brings all releases back to a recorded state: `to`, or the last one that is not what is there now.

    CRDs stay. Raises `UsageError` where there is no such state, `Refused` where the older hub could not
    read the database and nothing was decided about that; otherwise as `deploy`.
    """
    record = read_record(work.cluster, work.namespace)
    target = target_of(record, to, work.namespace)
    assert record is not None
    work.record = record
    hub = Charts.of((one.chart, one.version) for one in target.releases).hub
    put_back = PutDatabaseBack.of(database, hub) if isinstance(database, Path) else None
    manifests = _manifests(work, target)
    homes = _of_homes(work, target, manifests)
    wanted = tuple((name, Wanted.of(objects)) for name, objects in manifests.items())
    plan = Rollback(target, back_up, put_back, wanted)

    def checks(work: Work) -> None:
        if database is None:
            _check_database(work, target)

    def finish(work: Work, record: Record) -> Record:
        reached = replace(
            target,
            revision=record.next_revision,
            at=now(),
            by=work.holder.user,
            tidehub=__version__,
            operation="rollback",
            releases=tuple(state for one in target.releases if (state := record.release(one.name))),
        )
        work.notes.extend(homes)
        work.notes.append(
            f"the site file still says what was there before: `{program.command('plan')}` shows the difference"
        )
        return record.reached(reached)

    return run_steps(
        work,
        "rollback",
        plan.steps(),
        ensure_namespace=ensure_namespace,
        checks=checks,
        finish=finish,
        watch=watch,
        aim=str(target.revision),
    )


def target_of(record: Record | None, to: int | None, namespace: str) -> Deployed:
    """The state to go back to. Raises `UsageError`.

    After an operation that did not come to its end that is the last state that was reached; otherwise the one before.
    """
    if record is None or not record.revisions:
        raise UsageError(
            f"nothing is recorded in the namespace {namespace} that one could go back to",
            expected="a namespace in which tidehub deployed before",
            fix="look at kubernetes.namespace, --kubeconfig and --context",
        )
    numbers = ", ".join(str(one.revision) for one in record.revisions)
    if to is not None:
        found = record.revision(to)
        if found is None:
            raise UsageError(f"revision {to} does not exist", expected=f"one of {numbers}")
        return found
    unfinished = record.unfinished
    if unfinished is not None and unfinished.operation == "rollback":
        # Going on: to where that one was going.
        aimed = record.revision(int(unfinished.aim)) if unfinished.aim.isdigit() else None
        return aimed or record.revisions[-1]
    if unfinished is not None:
        return record.revisions[-1]
    if len(record.revisions) < 2:
        raise UsageError(
            f"there is only one state of {namespace}, and it is what is there",
            expected="two or more",
            fix=f"`{program.command('uninstall')}` removes it",
        )
    return record.revisions[-2]


def _manifests(work: Work, target: Deployed) -> dict[str, list[Object]]:
    """The objects of each release of that state, from Helm's own records."""
    found = {}
    for one in target.releases:
        try:
            found[one.name] = read_manifest(work.helm.manifest(one.name, work.namespace, one.revision))
        except ReleaseNotFound as error:
            raise Refused(
                f"Helm has no revision {one.revision} of {one.name} any more, so {work.namespace} cannot go back "
                f"to revision {target.revision}",
                expected="releases that were not uninstalled since, and at most 20 changes ago",
                fix="deploy the site file of that time again",
            ) from error
    return found


def _of_homes(work: Work, target: Deployed, manifests: Mapping[str, list[Object]]) -> list[str]:
    """Who would miss their home: a hub of before this tidehub may not look for the names that are there."""
    hub = hub_values(obj for objects in manifests.values() for obj in objects)
    before = Charts.of((one.chart, one.version) for one in work.record.releases)
    after = Charts.of((one.chart, one.version) for one in target.releases)
    if hub is None or finds_homes(hub.at("hub")):
        return []
    homes = Homes.of(work.cluster.find("v1", "PersistentVolumeClaim", work.namespace))
    found = moves(before, after, homes=homes, finds_homes=False)
    return [f"{one.what}; {one.fix}" for one in found if one.kind == "pvc-names" and one.weight != "notice"]


def _check_database(work: Work, target: Deployed) -> None:
    before = charts_there(work, [one.name for one in target.releases])
    after = Charts.of((one.chart, one.version) for one in target.releases)
    for move in consequences_between(work, before, after):
        if move.kind == "downgrade":
            saved = saved_before(work.record, target)
            named = f"--database {saved}" if saved else "--database FILE"
            raise Refused(
                move.what,
                expected="a database from before the upgrade",
                fix=f"{work.commands.other('rollback', '--to', str(target.revision))} {named} puts a copy back; "
                "--keep-database leaves it, for a hub with a database of its own elsewhere",
            )


def saved_before(record: Record, target: Deployed) -> Path | None:
    """The copy of a state, made when it was left, where it is on this machine."""
    names = [one.saved for one in record.revisions if one.revision > target.revision]
    if record.unfinished is not None:
        names.append(str(saved_path(record.unfinished.note_of("save")) or ""))
    return next((Path(name) for name in names if name and Path(name).is_file()), None)
