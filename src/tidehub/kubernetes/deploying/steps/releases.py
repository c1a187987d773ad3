"""Helm releases: brought about in order, each waited for."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import Any

from tidehub import __version__
from tidehub.errors import TidehubError
from tidehub.helm.problems import HelmProblem, NoDeployedRevision, OwnershipConflict
from tidehub.kubernetes.deploying.observing import WaitFailed, is_done, wait_until_ready, while_working
from tidehub.kubernetes.deploying.record import ReleaseState, digest, without_secrets
from tidehub.kubernetes.deploying.running import Work
from tidehub.kubernetes.deploying.steps.accounts import forget_accounts
from tidehub.kubernetes.deploying.steps.outdated import bring_up_to_date
from tidehub.kubernetes.deploying.steps.ownership import place_of, take_over, verdicts
from tidehub.kubernetes.deploying.stored import Live, free, live_release, without_nulls
from tidehub.kubernetes.deploying.waiting import Wanted
from tidehub.kubernetes.ownership import Verdict, release_verdict
from tidehub.kubernetes.rendering.model import RenderedRelease
from tidehub.kubernetes.rendering.render import helm_values
from tidehub.secrets.charts import revealed


@dataclass(frozen=True)
class HelmRelease:
    """Installs a release, or upgrades it where anything differs."""

    rendered: RenderedRelease = field(repr=False)

    @property
    def name(self) -> str:
        return f"release {self.rendered.release.name}"

    @property
    def title(self) -> str:
        return f"Release {self.rendered.release.name}"

    def needed(self, work: Work) -> bool:
        """Whether chart, values, secrets or rendered objects differ from what is deployed."""
        release = self.rendered.release
        live = live_release(work, release.name)
        before = work.record.release(release.name)
        if live is None or before is None or live.status != "deployed":
            return True
        if replace(wanted_state(self.rendered), revision=live.revision) != before:
            return True
        return bool(without_nulls(dict(live.values)) != without_nulls(values_of(self.rendered)))

    def verdicts(self, work: Work) -> list[Verdict]:
        """Of the release, and where something of it differs of its objects."""
        release = self.rendered.release
        found = [release_verdict(release.name, release.chart, place_of(work))]
        return found + (verdicts(work, release.name, self.rendered.objects) if self.needed(work) else [])

    def run(self, work: Work) -> str:
        """Frees it from what a killed Helm left, then lets Helm work while its hooks are watched."""
        release = self.rendered.release
        before = live_release(work, release.name)
        freed = free(work, release.name)
        known = work.record.release(release.name)
        # Ours from here on, and not as wanted until Helm says so: an interruption leaves no doubt.
        started = replace(
            wanted_state(self.rendered), values="", manifest="", revision=known.revision if known else 0
        )
        work.write(work.record.with_release(started))
        for change in bring_up_to_date(work, release.name):
            work.say.note(f"Helm's record of {release.name}: {change}")
        take_over(work, release.name, verdicts(work, release.name, self.rendered.objects))
        work.ensure()
        revision = self._helm(work)
        work.facts.clear()
        forget_accounts(work, release.name)
        work.write(work.record.with_release(replace(wanted_state(self.rendered), revision=revision)))
        work.facts.clear()
        return _what_was_done(before, freed, self.rendered, revision)

    def _helm(self, work: Work) -> int:
        release = self.rendered.release
        hooks = Wanted.of_hooks(self.rendered.hooks)
        ended = threading.Event()
        failures: list[WaitFailed] = []

        def look() -> None:
            found = while_working(work, hooks, f"Release {release.name}", work.helm.stop, ended.wait)
            failures.extend([found] if found else [])

        watcher = threading.Thread(target=look, name="hooks", daemon=True)
        if hooks:
            watcher.start()
        try:
            applied = work.helm.upgrade_install(
                self.rendered.archive.path,
                helm_values(release),
                release=release.name,
                namespace=work.namespace,
                timeout=work.options.timeout,
                description=f"tidehub {__version__}",
            )
        except OwnershipConflict as conflict:
            named = work.commands.other(
                work.commands.operation, "--adopt", f"{conflict.kind}/{conflict.name}"
            )
            raise _with_fix(
                conflict, f"remove it where nobody needs it, or take it over: {named}"
            ) from conflict
        except NoDeployedRevision as error:
            raise _with_fix(
                error,
                f"look at it with `helm -n {work.namespace} history {release.name}`, then run this again",
            ) from error
        except HelmProblem:
            if failures:
                raise failures[0] from None
            raise
        finally:
            ended.set()
            if hooks:
                watcher.join(timeout=10)
        return applied.record.revision


@dataclass(frozen=True)
class Rollout:
    """Waits until what a release brought is ready."""

    release: str
    wanted: Wanted

    @property
    def name(self) -> str:
        return f"wait {self.release}"

    @property
    def title(self) -> str:
        return f"Pods of {self.release}"

    def needed(self, work: Work) -> bool:
        """Whether something of it is not ready."""
        return not is_done(work, self.wanted)

    def run(self, work: Work) -> str:
        """Raises `WaitFailed`."""
        from tidehub.kubernetes.deploying.observing import server_time

        return wait_until_ready(work, self.wanted, self.title, since=server_time(work))


def wanted_state(rendered: RenderedRelease) -> ReleaseState:
    """What the record says of a release that is as rendered."""
    release = rendered.release
    return ReleaseState(
        name=release.name,
        chart=release.chart,
        version=release.version,
        sha256=rendered.archive.sha256,
        values=digest(release.values),
        manifest=digest(without_secrets(rendered.objects)),
        revision=0,
    )


def values_of(rendered: RenderedRelease) -> dict[str, Any]:
    """Values with the secrets in clear, as Helm stores them: never to be shown."""
    found = revealed(helm_values(rendered.release))
    assert isinstance(found, dict)
    return found


def _with_fix(error: TidehubError, fix: str) -> TidehubError:
    return TidehubError(error.what, where=error.where, expected=error.expected, fix=fix)


def _what_was_done(before: Live | None, freed: str, rendered: RenderedRelease, revision: int) -> str:
    release = rendered.release
    if before is None:
        done = f"{release.chart} {release.version} installed"
    elif (before.chart, before.version) != (release.chart, release.version):
        done = f"{before.full_chart} became {release.chart} {release.version}"
    else:
        done = f"{release.chart} {release.version} changed"
    return f"{done}, revision {revision}" + (f" (it was left {freed})" if freed else "")
