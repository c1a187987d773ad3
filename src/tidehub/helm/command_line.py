"""The adapter to the `helm` program: one process per question, ended by its deadline."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tidehub.charts.archive import metadata
from tidehub.helm import output, process
from tidehub.helm.dialect import DIALECTS
from tidehub.helm.engine import Applied, DryRun, ReleaseRecord, Revision
from tidehub.helm.problems import HelmMissing, HelmProblem, Interrupted, ReleaseNotFound, TimedOut
from tidehub.helm.process import Ended, Stopped, TooSlow, run
from tidehub.helm.program import HelmProgram, find_helm
from tidehub.helm.sentences import problem
from tidehub.helm.values_file import secrets_of, values_file

READING = 60.0
"""Seconds for what only reads, or renders."""
MARGIN = 30.0
"""Seconds beyond Helm's own timeout before it is ended: it bounds single waits, not the whole operation."""
KEPT = 20
"""Revisions of a release that Helm keeps."""
_NOT_PASSED = ("HELM_", "TIDEHUB_", "KUBECONFIG", "PYTHON", "DEBUG", "LD_")
_FOR_RENDERING = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TZ")


class HelmCommandLine:
    """`engine.Helm` by the `helm` program, 3.18 or newer and 4.

    `kubeconfig` and `context` say which cluster; without, Helm looks where kubectl would. `log` gets every command
    as an operator would type it, `secrets` are further texts that no message may hold. `shown_values` is what the
    file of values is called there: `{release}` is replaced.
    """

    def __init__(
        self,
        program: HelmProgram | None = None,
        *,
        kubeconfig: str | None = None,
        context: str | None = None,
        seconds: float = READING,
        secrets: Sequence[str] = (),
        log: Callable[[str], None] | None = None,
        shown_values: str = "{release}/values.yaml",
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._program = program or find_helm(environ)
        self._dialect = DIALECTS[self._program.major]
        self._kubeconfig = kubeconfig
        self._context = context
        self._seconds = seconds
        self._secrets = tuple(secrets)
        self._log = log
        self._shown_values = shown_values
        self._environ = environ
        self._running: set[subprocess.Popen[bytes]] = set()

    def version(self) -> str:
        """The program's version."""
        return self._program.version

    def render(
        self,
        chart: Path,
        values: Mapping[str, Any],
        *,
        release: str,
        namespace: str,
        kube_version: str | None = None,
        api_versions: Sequence[str] = (),
        include_crds: bool = False,
        is_upgrade: bool = False,
    ) -> str:
        """See `engine.Helm.render`. Nothing of the environment but a few paths reaches the program."""
        argv = ["template", release, str(chart)]
        argv += ["--kube-version", kube_version] if kube_version else []
        argv += ["--api-versions", ",".join(api_versions)] if api_versions else []
        argv += ["--include-crds"] if include_crds else []
        argv += ["--is-upgrade"] if is_upgrade else []
        return self._run(argv, release, namespace, values=values, cluster=False)

    def upgrade_install(
        self,
        chart: Path,
        values: Mapping[str, Any],
        *,
        release: str,
        namespace: str,
        timeout: float,
        dry_run: DryRun = "none",
        take_ownership: bool = False,
        wait: bool = False,
        description: str = "",
        skip_crds: bool = True,
    ) -> Applied:
        """See `engine.Helm.upgrade_install`."""
        # `--reset-values`: else Helm keeps earlier values where a file of values is empty.
        argv = [
            "upgrade",
            release,
            str(chart),
            "--install",
            "--reset-values",
            "--hide-notes",
            "--output",
            "json",
        ]
        argv += ["--history-max", str(KEPT), "--timeout", _duration(timeout), *self._dialect.write]
        argv += self._dialect.wait if wait else self._dialect.no_wait
        argv += ["--dry-run=server"] if dry_run == "server" else []
        argv += ["--take-ownership"] if take_ownership else []
        argv += ["--skip-crds"] if skip_crds else []
        argv += ["--description", description] if description else []
        given = metadata(chart)
        said = self._run(argv, release, namespace, values=values, deadline=timeout + MARGIN)
        record, manifest = output.applied(
            said, {"name": given.name, "version": given.version, "appVersion": given.app_version}
        )
        return Applied(record, manifest)

    def status(self, release: str, namespace: str) -> ReleaseRecord | None:
        """See `engine.Helm.status`."""
        found = self._history(release, namespace, 1)
        return output.record_of(release, namespace, found[-1]) if found else None

    def history(self, release: str, namespace: str) -> tuple[Revision, ...]:
        """See `engine.Helm.history`."""
        return self._history(release, namespace, 1000)

    def values(
        self, release: str, namespace: str, revision: int | None = None, *, all: bool = False
    ) -> dict[str, Any]:
        """See `engine.Helm.values`. Raises `ReleaseNotFound`."""
        argv = [
            "get",
            "values",
            release,
            "--output",
            "json",
            *_revision(revision),
            *(["--all"] if all else []),
        ]
        found = output.document(self._run(argv, release, namespace))
        return found if isinstance(found, dict) else {}

    def manifest(self, release: str, namespace: str, revision: int | None = None) -> str:
        """See `engine.Helm.manifest`. Raises `ReleaseNotFound`."""
        return self._run(["get", "manifest", release, *_revision(revision)], release, namespace)

    def hooks(self, release: str, namespace: str, revision: int | None = None) -> str:
        """See `engine.Helm.hooks`. Raises `ReleaseNotFound`."""
        return self._run(["get", "hooks", release, *_revision(revision)], release, namespace)

    def rollback(
        self, release: str, namespace: str, revision: int, *, timeout: float, wait: bool = False
    ) -> ReleaseRecord:
        """See `engine.Helm.rollback`. Raises `ReleaseNotFound`."""
        argv = [
            "rollback",
            release,
            str(revision),
            "--timeout",
            _duration(timeout),
            "--history-max",
            str(KEPT),
        ]
        argv += self._dialect.write
        argv += self._dialect.wait if wait else self._dialect.no_wait
        self._run(argv, release, namespace, deadline=timeout + MARGIN)
        found = self.status(release, namespace)
        if found is None:
            raise ReleaseNotFound(
                "the release is gone since its rollback", fix="somebody uninstalled it meanwhile"
            )
        return found

    def uninstall(self, release: str, namespace: str, *, timeout: float, keep_history: bool = False) -> bool:
        """See `engine.Helm.uninstall`."""
        argv = ["uninstall", release, "--timeout", _duration(timeout), *self._dialect.wait_gone]
        argv += ["--keep-history"] if keep_history else []
        try:
            self._run(argv, release, namespace, deadline=timeout + MARGIN)
        except ReleaseNotFound:
            return False
        return True

    def list(self, namespace: str) -> tuple[ReleaseRecord, ...]:
        """See `engine.Helm.list`."""
        argv = ["list", *self._dialect.list_all, "--max", "1000", "--output", "json"]
        return output.records(self._run(argv, None, namespace))

    def stop(self) -> None:
        """See `engine.Helm.stop`."""
        for child in tuple(self._running):
            process.stop(child)

    def _history(self, release: str, namespace: str, most: int) -> tuple[Revision, ...]:
        argv = ["history", release, "--max", str(most), "--output", "json"]
        try:
            return output.revisions(self._run(argv, release, namespace))
        except ReleaseNotFound:
            return ()

    def _run(
        self,
        argv: Sequence[str],
        release: str | None,
        namespace: str,
        *,
        values: Mapping[str, Any] | None = None,
        deadline: float | None = None,
        cluster: bool = True,
    ) -> str:
        """Standard output of one command. Raises the typed problem of what it says otherwise."""
        seconds = self._seconds if deadline is None else deadline
        secrets = (*self._secrets, *secrets_of(values or {}))
        argv = [*argv, "--namespace", namespace, *self._where(cluster)]
        with tempfile.TemporaryDirectory(prefix="tidehub-helm-") as home, values_file(values) as handle:
            given = [] if handle is None else ["--values", f"/dev/fd/{handle}"]
            self._say(argv, release, values is not None, cluster)
            try:
                ended = run(
                    [self._program.path, *argv, *given],
                    env=self._environment(Path(home), cluster),
                    deadline=seconds,
                    pass_fds=() if handle is None else (handle,),
                    started=self._running.add,
                )
            except TooSlow as error:
                raise _about(_too_slow(argv[0], release, seconds, error, secrets), release, argv[0]) from None
            except Stopped as error:
                raise _about(_stopped(argv[0], release, error), release, argv[0]) from None
            except OSError as error:
                raise HelmMissing(f"helm cannot be started: {error.strerror or error}") from None
            finally:
                self._running -= {child for child in tuple(self._running) if child.returncode is not None}
        return self._said(ended, release, argv[0], secrets)

    def _said(self, ended: Ended, release: str | None, doing: str, secrets: Sequence[str]) -> str:
        if ended.code == 0:
            return ended.output
        if ended.code in (-signal.SIGINT, -signal.SIGTERM):
            # `stop`, or somebody else: what only reads, and a rollback, does not handle them.
            raise _about(_stopped(doing, release, Stopped(graceful=False)), release, doing)
        if ended.code < 0:
            killed = HelmProblem(
                f"helm {doing} was ended by signal {-ended.code} from outside",
                expected="enough memory, and nobody who ends it",
                fix="run the same command again: it continues",
            )
            raise _about(killed, release, doing)
        raise problem(ended.complaint, release=release, doing=doing, secrets=secrets)

    def _where(self, cluster: bool) -> tuple[str, ...]:
        return ("--kube-context", self._context) if cluster and self._context else ()

    def _environment(self, home: Path, cluster: bool) -> dict[str, str]:
        """Of our own environment, what credential plugins may read: nobody knows the names of all clouds' variables.

        Rendering needs none of it and gets none.
        """
        if cluster:
            env = {name: value for name, value in self._environ.items() if not name.startswith(_NOT_PASSED)}
            if kubeconfig := self._kubeconfig or self._environ.get("KUBECONFIG"):
                env["KUBECONFIG"] = kubeconfig
        else:
            env = {name: self._environ[name] for name in _FOR_RENDERING if name in self._environ}
            env["KUBECONFIG"] = os.devnull
        for kind in ("CONFIG", "CACHE", "DATA"):
            env[f"HELM_{kind}_HOME"] = str(home / kind.lower())
        return env

    def _say(self, argv: Sequence[str], release: str | None, with_values: bool, cluster: bool) -> None:
        if self._log is None:
            return
        given = ["--values", self._shown_values.format(release=release)] if with_values else []
        kubeconfig = f"KUBECONFIG={shlex.quote(self._kubeconfig)} " if cluster and self._kubeconfig else ""
        self._log(kubeconfig + shlex.join(["helm", *argv, *given]))


def _revision(revision: int | None) -> tuple[str, ...]:
    return () if revision is None else ("--revision", str(revision))


def _duration(seconds: float) -> str:
    """As Go reads it, never zero: Helm takes that for `at once`."""
    return f"{max(1, round(seconds))}s"


def _about(found: HelmProblem, release: str | None, doing: str) -> HelmProblem:
    found.release, found.doing = release, doing
    return found


def _too_slow(
    doing: str, release: str | None, seconds: float, error: TooSlow, secrets: Sequence[str]
) -> HelmProblem:
    said = error.complaint.strip()
    last = f"; it had said: {problem(said, secrets=secrets).what}" if said else ""
    return TimedOut(
        f"helm {doing}{f' of {release}' if release else ''} did not end within {seconds:.0f} s and was stopped{last}",
        expected="a cluster that answers",
        fix="check that the API server answers, then run the same command again: it continues",
    )


def _stopped(doing: str, release: str | None, error: Stopped) -> HelmProblem:
    how = "and wrote down how far it came" if error.graceful else "and had to be killed"
    return Interrupted(
        f"helm {doing}{f' of {release}' if release else ''} was interrupted {how}",
        fix="run the same command again: it continues",
    )
