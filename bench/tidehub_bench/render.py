"""`bench/render`: how long a community waits until it has seen its deployment, beside its own notes' commands.

The plain side are the commands of ProtoCoast's deployment notes with plain helm, one after the other as they stand
there: `helm lint` and `helm template` of both charts, and with a cluster both dry runs. Their charts and values are
local files, the ones that tidehub rendered; the notes' own values would be refused.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tidehub.charts.fetch import CHARTS, given_directory
from tidehub.errors import INTERRUPTED, TidehubError, UsageError
from tidehub.helm.program import GIVEN, HelmProgram, find_helm
from tidehub.kubernetes.rendering.capabilities import DEFAULT_KUBE_VERSION, OFFLINE_API_VERSIONS
from tidehub_bench import report
from tidehub_bench.machine import processor
from tidehub_bench.statistics import median

SITE = Path(__file__).resolve().parents[2] / "examples" / "protocoast" / "tidehub.yaml"
NAMESPACE = "daskhub"
SECONDS = 300.0
"""For one command; none takes a hundredth of that on a quiet machine."""
SECRETS = ("hub_cookie_secret", "hub_crypt_key", "proxy_auth_token", "gateway_token")


@dataclass
class Samples:
    """Seconds by what was measured: of wall time, and of processors of all programs together."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    processor: dict[str, list[float]] = field(default_factory=dict)

    def add(self, what: str, seconds: float, processor: float) -> None:
        self.seconds.setdefault(what, []).append(seconds)
        self.processor.setdefault(what, []).append(processor)

    def median(self, what: str) -> float | None:
        found = self.seconds.get(what)
        return median(found) if found else None

    def work(self, what: str) -> float | None:
        """Median of processor time."""
        found = self.processor.get(what)
        return median(found) if found else None


@dataclass(frozen=True)
class Bench:
    """One folder with the site, its rendered values and the charts."""

    directory: Path
    helm: HelmProgram
    charts: Path
    kubeconfig: Path | None = None

    @property
    def environ(self) -> dict[str, str]:
        """What every command gets, ours and theirs."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
        return {
            **kept,
            "HOME": str(self.directory),
            GIVEN: self.helm.path,
            CHARTS: str(self.charts),
            "PYTHONPATH": os.pathsep.join(sys.path),
            "KUBECONFIG": str(self.kubeconfig or os.devnull),
        }

    def tidehub(self, *argv: str) -> float:
        """Seconds of one command of ours, from its start to its end."""
        return self._timed([sys.executable, "-m", "tidehub", *argv])

    def plain(self, *argv: str) -> float:
        """Seconds of one command of helm."""
        return self._timed([self.helm.path, *argv])

    def prepare(self) -> None:
        """The site with secrets, and what both sides start from; once."""
        if (self.directory / "plain").exists():
            return
        site = self.directory / "tidehub.yaml"
        shutil.copyfile(SITE, site)
        hidden = self.directory / "tidehub.secrets.yaml"
        hidden.touch(mode=0o600)
        values = {name: os.urandom(32).hex() for name in SECRETS}
        hidden.write_text(json.dumps({"client_secret": os.urandom(20).hex(), **values}), encoding="utf-8")
        self.tidehub("render", "tidehub.yaml", "--output", "plain", "--with-secrets", "--with-charts")

    def releases(self) -> list[tuple[str, str, list[str]]]:
        """Name, chart and value files of each release, hub first, as the folder's README has them."""
        folder = self.directory / "plain"
        found = []
        for name in ("jupyterhub", "dask-gateway"):
            (chart,) = (folder / "charts").glob(f"{name}-*.tgz")
            files = [
                str(folder / "values" / f"{name}.yaml"),
                str(folder / "secrets" / f"{name}.secrets.yaml"),
            ]
            found.append((name, str(chart), [word for file in files for word in ("--values", file)]))
        return found

    def lint_and_template(self) -> float:
        """Both charts linted and rendered, one command after the other."""
        releases = self.releases()
        seconds = sum(self.plain("lint", chart, *values) for _, chart, values in releases)
        return seconds + sum(self.plain(*self.template(one)) for one in releases)

    def templates_at_once(self) -> float:
        """Both charts rendered at the same time, and nothing else: no tool around helm can be quicker."""
        began = time.monotonic()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda one: self.plain(*self.template(one)), self.releases()))
        return time.monotonic() - began

    def template(self, release: tuple[str, str, list[str]]) -> list[str]:
        name, chart, values = release
        offline = ["--kube-version", DEFAULT_KUBE_VERSION, "--api-versions", ",".join(OFFLINE_API_VERSIONS)]
        return ["template", name, chart, "--namespace", NAMESPACE, *values, *offline]

    def dry_runs(self) -> float:
        """Both releases against the API server, which writes nothing."""
        return sum(
            self.plain(
                "upgrade", name, chart, "--install", "--namespace", NAMESPACE, *values, "--dry-run=server"
            )
            for name, chart, values in self.releases()
        )

    def _timed(self, argv: Sequence[str]) -> float:
        began = time.monotonic()
        ended = subprocess.run(
            argv, cwd=self.directory, env=self.environ, capture_output=True, text=True, timeout=SECONDS
        )
        seconds = time.monotonic() - began
        if ended.returncode:
            lines = (ended.stderr or ended.stdout).strip().splitlines()
            raise TidehubError(
                f"{Path(argv[0]).name} {' '.join(argv[1:3])} failed",
                expected="exit code 0",
                fix=" | ".join(lines[-4:]),
            )
        return seconds


RENDER, PLAN = "render", "plan"
LINT_AND_TEMPLATE, AT_ONCE, DRY_RUNS = "lint and template twice", "templates at once", "dry-run twice"


def measure(bench: Bench, rounds: int, say: Callable[[str], None]) -> Samples:
    """The sides take turns, and who goes first changes with every round."""
    say("first run of each side, not counted")
    bench.prepare()
    bench.lint_and_template()
    samples = Samples()
    steps: list[tuple[str, Callable[[], float]]] = [
        (RENDER, lambda: bench.tidehub("render", "tidehub.yaml", "--output", "ours")),
        (LINT_AND_TEMPLATE, bench.lint_and_template),
        (AT_ONCE, bench.templates_at_once),
    ]
    if bench.kubeconfig is not None:
        steps += [(PLAN, lambda: bench.tidehub("plan", "tidehub.yaml")), (DRY_RUNS, bench.dry_runs)]
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        for what, step in steps if number % 2 == 0 else list(reversed(steps)):
            before = _processor_time()
            seconds = step()
            samples.add(what, seconds, _processor_time() - before)
    return samples


@contextmanager
def _on_a_test_cluster(bench: Bench) -> Iterator[Bench]:
    from tidehub_bench import cluster

    with cluster.started(bench.directory / "cluster") as running:
        bench = replace(bench, kubeconfig=running.kubeconfig)
        bench.prepare()
        cluster.install(running, bench.directory / "plain", bench.helm.path, bench.releases())
        yield bench


def _processor_time() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def rows(samples: Samples) -> list[report.Row]:
    """The lines of the table. The lower bound has no plain side: it is one."""
    count = len(samples.seconds.get(RENDER, []))
    lines = [
        report.Row(
            "see all objects: render, beside lint and template twice",
            samples.median(RENDER),
            samples.median(LINT_AND_TEMPLATE),
            "s",
            f"{count} / {count}",
        ),
        report.Row(
            "the same beside helm's templates alone, at once",
            samples.median(RENDER),
            samples.median(AT_ONCE),
            "s",
            f"{count} / {count}",
        ),
        report.Row(
            "processor time of render, beside lint and template twice",
            samples.work(RENDER),
            samples.work(LINT_AND_TEMPLATE),
            "s",
            f"{count} / {count}",
        ),
    ]
    if PLAN in samples.seconds:
        whole = [
            lint + dry
            for lint, dry in zip(samples.seconds[LINT_AND_TEMPLATE], samples.seconds[DRY_RUNS], strict=True)
        ]
        what = "see what would change: plan, beside the notes' six commands"
        lines.append(report.Row(what, samples.median(PLAN), median(whole), "s", f"{count} / {count}"))
    return lines


def facts(bench: Bench, before: tuple[float, float, float]) -> dict[str, Any]:
    """What the numbers belong to."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": processor(Path("/proc/cpuinfo").read_text()),
        "helm": bench.helm.version,
        "python": sys.version.split()[0],
        "load_before": before,
        "load_after": os.getloadavg(),
    }


def main() -> None:
    """Parse the arguments, measure, print the table."""
    parser = argparse.ArgumentParser(
        prog="bench/render",
        description="Time `tidehub render` beside the commands of the ProtoCoast notes, with the same helm.",
    )
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="how often  [default: 7]")
    parser.add_argument("--charts", type=Path, metavar="DIR", help=f"packaged charts  [default: {CHARTS}]")
    parser.add_argument(
        "--kubeconfig", type=Path, metavar="FILE", help="a cluster with the site on it: plan and dry runs too"
    )
    parser.add_argument(
        "--test-cluster",
        action="store_true",
        help="the same on a cluster that tests/cluster/prepare has built",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every sample to FILE")
    options = parser.parse_args()
    try:
        sys.exit(run(options))
    except TidehubError as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("bench: interrupted; nothing was written", file=sys.stderr)
        sys.exit(INTERRUPTED)


def run(options: argparse.Namespace) -> int:
    """Measure and report."""
    if options.rounds < 1:
        raise UsageError("--rounds needs at least 1")
    charts = given_directory(options.charts)
    if charts is None:
        raise UsageError("no charts are named", expected=f"--charts DIR or {CHARTS}")
    directory = Path(tempfile.mkdtemp(prefix="tidehub-bench-render-"))
    before = os.getloadavg()
    stack = ExitStack()
    try:
        kubeconfig = options.kubeconfig.absolute() if options.kubeconfig else None
        bench = Bench(directory, find_helm(), charts.absolute(), kubeconfig)
        if options.test_cluster:
            bench = stack.enter_context(_on_a_test_cluster(bench))
        samples = measure(
            bench, options.rounds, lambda text: print(f"bench: {text}", file=sys.stderr, flush=True)
        )
    finally:
        stack.close()
        shutil.rmtree(directory, ignore_errors=True)
    lines = rows(samples)
    machine = facts(bench, before)
    print(report.table(lines))
    print("\n".join(["", *_machine_lines(machine)]))
    if options.json:
        found = {
            "machine": machine,
            "figures": [_figure(line) for line in lines],
            "samples": {"wall": samples.seconds, "processor": samples.processor},
        }
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


def _machine_lines(machine: Mapping[str, Any]) -> list[str]:
    loads = [" ".join(f"{load:.2f}" for load in machine[key]) for key in ("load_before", "load_after")]
    return [
        f"machine: {machine['cores']} cores, {machine['processor']}",
        f"programs: helm {machine['helm']}, Python {machine['python']}",
        f"load average before: {loads[0]}; after: {loads[1]}",
    ]


def _figure(line: report.Row) -> dict[str, Any]:
    return {
        "what": line.what,
        "unit": line.unit,
        "tidehub": line.ours,
        "plain": line.plain,
        "ratio": line.ratio,
    }
