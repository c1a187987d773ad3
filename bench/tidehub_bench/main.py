"""`bench/run`: the plan of one run."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import NoReturn

from tidehub.errors import INTERRUPTED, TidehubError, UsageError
from tidehub.local.software import Software
from tidehub.local.software.progress import on_standard_error
from tidehub.site.reading.load import builtin_site
from tidehub_bench import machine, report
from tidehub_bench.measure import Bench
from tidehub_bench.ours import Ours, refuse_a_running_platform
from tidehub_bench.plain import Plain, Sizes
from tidehub_bench.processes import Programs


@dataclass(frozen=True)
class Plan:
    """How often each thing is measured."""

    starts: int
    spawns: int
    users: int
    rounds_at_once: int
    clusters: int
    idle_servers: int
    crowd: int
    rounds_of_crowds: int = 1


FULL = Plan(starts=4, spawns=20, users=20, rounds_at_once=1, clusters=5, idle_servers=4, crowd=40)
QUICK = Plan(starts=2, spawns=6, users=8, rounds_at_once=1, clusters=2, idle_servers=2, crowd=12)
PARTS = {
    "starts": "starts",
    "spawns": "spawns",
    "clusters": "clusters",
    "memory": "idle_servers",
    "together": "rounds_at_once",
    "crowd": "rounds_of_crowds",
}
"""How much of each part a plan has; a part with none of it is left out."""


def main() -> None:
    """Parse the arguments, measure, print the table."""
    parser = argparse.ArgumentParser(
        prog="bench/run",
        description="Measure tidehub and the plain upstream programs side by side on this machine.",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="fewer samples, 8 instead of 20 users and a crowd of 12 instead of 40",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=sorted(PARTS),
        metavar="PART",
        help=f"only this part, can be given several times: {', '.join(PARTS)}",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every sample to FILE")
    parser.add_argument("--keep", action="store_true", help="keep the states and logs for looking into them")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if options.json and not options.json.absolute().parent.is_dir():
            raise UsageError(
                f"{options.json.absolute().parent} is no directory", fix="make it, or name another FILE"
            )
        plan = only(QUICK if options.quick else FULL, options.only)
        code = run(plan, options.json, keep=options.keep)
    except TidehubError as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("bench: interrupted; nothing was written", file=sys.stderr)
        sys.exit(INTERRUPTED)
    sys.exit(code)


def only(plan: Plan, parts: Collection[str] | None) -> Plan:
    """The plan with these parts alone; None: all of it."""
    left_out = [field for part, field in PARTS.items() if parts and part not in parts]
    return replace(plan, **dict.fromkeys(left_out, 0))


def run(plan: Plan, json_file: Path | None, *, keep: bool) -> int:
    """Measure and report. Returns the exit code: 1 when something of ours failed while measuring."""
    refuse_a_running_platform()
    software = Software(progress=on_standard_error())
    environment, proxy = software.environment(), software.proxy()
    directory = Path(tempfile.mkdtemp(prefix="tidehub-bench-"))
    directory.chmod(0o711)  # users' own processes pass through it
    began, load_before = time.monotonic(), os.getloadavg()
    programs = Programs(directory / "logs")
    ours = Ours(programs, directory / "ours")
    try:
        with programs:
            plain = Plain(
                programs,
                directory / "plain",
                environment=environment.root,
                proxy=proxy,
                sizes=default_sizes(),
            )
            bench = Bench([ours, plain], lambda text: _say(began, text))
            asyncio.run(_measure(bench, plan, environment.python))
            facts = machine.facts(environment.python, proxy, ours.isolation())
    finally:
        ours.clear()
        if keep:
            print(f"bench: states and logs are in {directory}", file=sys.stderr)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    facts |= {
        "load_before": load_before,
        "load_after": os.getloadavg(),
        "seconds": time.monotonic() - began,
        "plan": vars(plan),
    }
    results = bench.results
    lines = report.rows(results["tidehub"], results["plain"])
    print(report.table(lines))
    for name, result in results.items():
        for failure in report.failures(result):
            print(f"{name}: {failure}")
    print("\n".join(["", *report.machine_lines(facts)]))
    if json_file:
        _write(json_file, json.dumps(report.to_json(lines, results, facts), indent=2) + "\n")
    return 1 if report.failures(results["tidehub"]) else 0


async def _measure(bench: Bench, plan: Plan, python: Path) -> None:
    run_name = secrets.token_hex(2)
    try:
        for side in bench.sides:
            bench.say(f"first start of {side.name}, not counted")
            await side.prepare(run_name, max(plan.users, plan.crowd if plan.rounds_of_crowds else 0))
        await bench.starts(plan.starts)
        if plan.spawns or plan.clusters or plan.idle_servers or plan.rounds_at_once:
            await bench.log_everybody_in(plan.users)
        if plan.spawns:
            await bench.spawns(plan.spawns, plan.users)
        if plan.clusters:
            await bench.clusters(python, plan.clusters)
        if plan.idle_servers:
            await bench.idle_memory(plan.idle_servers)
        await bench.users_at_once(plan.rounds_at_once, plan.users)
        await bench.crowds(plan.rounds_of_crowds, plan.crowd)
    finally:
        for side in bench.sides:
            await side.hub.close()
            await side.stop()


def default_sizes() -> Sizes:
    """What the built-in site gives a cluster when nothing is chosen."""
    dask = builtin_site().dask
    return Sizes(
        worker_cores=int(dask.worker.cores.default),
        worker_memory=dask.worker.memory.default,
        scheduler_memory=dask.scheduler.memory,
    )


def _say(began: float, text: str) -> None:
    print(f"bench: {time.monotonic() - began:5.0f} s  {text}", file=sys.stderr, flush=True)


def _write(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
