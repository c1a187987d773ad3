"""Goes to other charts: `upgrade` is `deploy` with what such a way needs before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tidehub.kubernetes.deploying import copies
from tidehub.kubernetes.deploying.copies import BackUp
from tidehub.kubernetes.deploying.deploy import Deployment, consequences, go_back
from tidehub.kubernetes.deploying.moves import Charts, Move
from tidehub.kubernetes.deploying.running import Result, Step, Watcher, Work, run_steps
from tidehub.kubernetes.deploying.steps.database import PutDatabaseBack
from tidehub.kubernetes.deploying.steps.namespace import ensure_namespace
from tidehub.kubernetes.deploying.steps.readiness import Ask
from tidehub.kubernetes.deploying.steps.saving import saved_path
from tidehub.kubernetes.deploying.words import Refused
from tidehub.kubernetes.rendering.model import Rendered

FOR_GOOD = frozenset({"database", "downgrade", "unknown"})
"""Moves after which the hub that runs now cannot read its database any more, or nobody knows."""


def upgrade(
    rendered: Rendered,
    work: Work,
    *,
    database: Path | None = None,
    back_up: BackUp = copies.back_up,
    ask: Ask | None = None,
    watch: Watcher = lambda step, moment: None,
) -> Result:
    """Makes the namespace what was rendered, after a copy, over whatever change of charts that is.

    `database` is a backup whose database the hub gets: needed where the hub becomes older. Raises as `deploy`.
    """
    hub = Charts.of((one.release.chart, one.release.version) for one in rendered.releases).hub
    before: tuple[Step, ...] = (PutDatabaseBack.of(database, hub),) if database is not None else ()
    told: set[str] = set()
    must_save = any(one.kind in FOR_GOOD for one in consequences(work, rendered))
    deployment = Deployment(rendered, "upgrade", back_up, ask, before, must_save)

    def checks(work: Work) -> None:
        deployment.check(work)
        found = consequences(work, rendered)
        refuse_impossible(found, database)
        for one in found:
            if one.what not in told:
                told.add(one.what)
                work.say.note(one.what[0].upper() + one.what[1:] + (f" ({one.fix})" if one.fix else ""))

    def back(work: Work) -> str:
        """With the copy of the database, where the newer hub may have changed it."""
        saved = saved_path(work.record.journal.note_of("save")) if work.record.journal else None
        if must_save and saved is not None and work.record.deployed is not None:
            return work.commands.other("rollback", "--database", str(saved))
        return go_back(work)

    return run_steps(
        work,
        "upgrade",
        deployment.steps(),
        ensure_namespace=ensure_namespace,
        checks=checks,
        finish=deployment.reached,
        back=back,
        watch=watch,
    )


def refuse_impossible(found: Sequence[Move], database: Path | None) -> None:
    """Raises `Refused` for what cannot be done, save for a downgrade that brings its database along."""
    for one in found:
        if one.weight == "refused" and not (one.kind == "downgrade" and database is not None):
            raise Refused(one.what, fix=one.fix)
