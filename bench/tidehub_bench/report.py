"""The table for users, and the same numbers for programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tidehub_bench.measure import Results
from tidehub_bench.statistics import median, percentile

MIB = 2**20


@dataclass(frozen=True)
class Row:
    """One line of the table. `None`: nothing was measured. A ratio above 1 says that ours needs less."""

    what: str
    ours: float | None
    plain: float | None
    unit: str
    samples: str

    @property
    def ratio(self) -> float | None:
        """Plain divided by ours."""
        return self.plain / self.ours if self.ours and self.plain is not None else None


def rows(ours: Results, plain: Results) -> list[Row]:
    """The measured figures, in the order of a platform's day."""

    def row(what: str, unit: str, take: Callable[[Results], Sequence[float]], figure: Figure) -> Row:
        samples = take(ours), take(plain)
        values = [figure(found) if found else None for found in samples]
        return Row(what, values[0], values[1], unit, " / ".join(str(len(found)) for found in samples))

    return [
        row("exec to login page, median", "s", lambda r: r.login_page, median),
        row("exec to login page and Dask Gateway, median", "s", lambda r: r.gateway, median),
        row("one spawn after the other, p50", "s", lambda r: r.spawn, median),
        row("one spawn after the other, p95", "s", lambda r: r.spawn, _p95),
        _success(ours, plain),
        row("all at once, wall until the last that came", "s", _walls, median),
        row("all at once, p50 of those that came", "s", _together, median),
        row("all at once, p95 of those that came", "s", _together, _p95),
        _crowd(ours, plain),
        row("crowd, from the login page to a cell, p50", "s", _cells_of_crowd, median),
        row("crowd, from the login page to a cell, the last", "s", _cells_of_crowd, max),
        row("crowd, login page meanwhile, p50", "s", _login_page_of_crowd, median),
        row("crowd, login page meanwhile, p95", "s", _login_page_of_crowd, _p95),
        row("crowd, login page meanwhile, the slowest", "s", _login_page_of_crowd, max),
        row("idle server, PSS", "MiB", lambda r: [one.pss / MIB for one in r.memory], _mean),
        row("idle server, private memory", "MiB", lambda r: [one.private / MIB for one in r.memory], _mean),
        row("cluster with two workers to first result, p50", "s", _clusters, median),
        row("cluster with two workers to first result, max", "s", _clusters, max),
    ]


Figure = Callable[[Sequence[float]], float]


def table(lines: Sequence[Row]) -> str:
    """Plain text in columns; a ratio above 1 is in our favour."""
    heads = ("", "tidehub", "plain", "plain/tidehub", "samples")
    cells = [heads, *(_cells(line) for line in lines)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    shown = [
        "  ".join(
            cell.ljust(width) if column in (0, 4) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    return "\n".join([shown[0], "-" * max(map(len, shown)), *shown[1:]])


def failures(results: Results) -> list[str]:
    """What did not work on one side, each kind once, with how often."""
    together = [
        f"{round_.asked - round_.succeeded} of {round_.asked} at once got no server: {failure}"
        for round_ in results.together
        for failure in round_.failures
    ]
    return [
        *(f"a spawn failed: {failure}" for failure in results.spawn_failures),
        *together,
        *(f"a cluster failed: {failure}" for failure in results.cluster_failures),
        *(f"in the crowd: {failure}" for came in results.crowd for failure in came.failures),
    ]


def machine_lines(machine: dict[str, Any]) -> list[str]:
    """What the numbers belong to."""
    versions = dict(machine["versions"])
    notebook = versions.pop("notebook")
    loads = [" ".join(f"{load:.2f}" for load in machine[key]) for key in ("load_before", "load_after")]
    return [
        (
            f"machine: {machine['cores']} cores, {machine['processor']}, {machine['memory'] / 2**30:.1f} GiB, "
            f"Linux {machine['kernel']}, {'root' if machine['root'] else 'unprivileged'}, "
            f"isolation of tidehub: {machine['isolation']}"
        ),
        f"load average before: {loads[0]}; after: {loads[1]}",
        "programs: " + ", ".join(f"{name} {version}" for name, version in versions.items()),
        "notebook environment: " + ", ".join(f"{name} {version}" for name, version in notebook.items()),
    ]


def to_json(lines: Sequence[Row], results: dict[str, Results], machine: dict[str, Any]) -> dict[str, Any]:
    """Everything: figures, every sample, failures, machine."""
    return {
        "machine": machine,
        "figures": [
            {
                "what": line.what,
                "unit": line.unit,
                "tidehub": line.ours,
                "plain": line.plain,
                "ratio": line.ratio,
            }
            for line in lines
        ],
        "samples": {name: result.to_json() for name, result in results.items()},
        "failures": {name: failures(result) for name, result in results.items()},
    }


def _success(ours: Results, plain: Results) -> Row:
    counts = [sum(round_.succeeded for round_ in side.together) for side in (ours, plain)]
    asked = [sum(round_.asked for round_ in side.together) for side in (ours, plain)]
    return Row("all at once, servers that came", counts[0], counts[1], "", f"{asked[0]} / {asked[1]}")


def _crowd(ours: Results, plain: Results) -> Row:
    served = [sum(len(came.served) for came in side.crowd) for side in (ours, plain)]
    users = [sum(len(came.users) for came in side.crowd) for side in (ours, plain)]
    return Row("crowd, users served", served[0], served[1], "", f"{users[0]} / {users[1]}")


def _cells_of_crowd(results: Results) -> list[float]:
    return [seconds for came in results.crowd for seconds in came.times("cell")]


def _login_page_of_crowd(results: Results) -> list[float]:
    return [seconds for came in results.crowd for seconds in came.login_page]


def _cells(line: Row) -> tuple[str, ...]:
    ratio = f"{line.ratio:.2f}" if line.unit and line.ratio is not None else ""
    return (
        f"{line.what}, {line.unit}" if line.unit else line.what,
        _number(line.ours, line.unit),
        _number(line.plain, line.unit),
        ratio,
        line.samples,
    )


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if unit == "s" else f"{value:.0f}"


def _walls(results: Results) -> list[float]:
    return [round_.wall for round_ in results.together if round_.wall is not None]


def _together(results: Results) -> list[float]:
    return [seconds for round_ in results.together for seconds in round_.seconds]


def _clusters(results: Results) -> list[float]:
    return [cluster["total"] for cluster in results.cluster]


def _mean(samples: Sequence[float]) -> float:
    return sum(samples) / len(samples)


def _p95(samples: Sequence[float]) -> float:
    return percentile(samples, 0.95)
