"""The bench of rendering: who goes when, and what the table says."""

from __future__ import annotations

from pathlib import Path

import pytest
from tidehub_bench import render, report

from tidehub.errors import TidehubError
from tidehub.helm.program import HelmProgram


class Played(render.Bench):
    """Every step takes a known time, and is remembered."""

    def __init__(self, kubeconfig: Path | None = None) -> None:
        super().__init__(
            Path("/nowhere"), HelmProgram("/nowhere/helm", "4.2.4"), Path("/nowhere"), kubeconfig
        )
        object.__setattr__(self, "done", [])

    def _step(self, what: str, seconds: float) -> float:
        self.done.append(what)  # type: ignore[attr-defined]
        return seconds

    def prepare(self) -> None:
        self._step("prepare", 0)

    def tidehub(self, *argv: str) -> float:
        return self._step(argv[0], 1.0)

    def lint_and_template(self) -> float:
        return self._step("plain", 3.0)

    def templates_at_once(self) -> float:
        return self._step("at once", 0.5)

    def dry_runs(self) -> float:
        return self._step("dry", 2.0)


def test_the_sides_take_turns_and_the_first_run_is_not_counted() -> None:
    bench = Played()
    samples = render.measure(bench, 2, lambda text: None)
    first, second = ["render", "plain", "at once"], ["at once", "plain", "render"]
    assert bench.done == ["prepare", "plain", *first, *second]  # type: ignore[attr-defined]
    assert samples.seconds == {
        "render": [1.0, 1.0],
        render.LINT_AND_TEMPLATE: [3.0, 3.0],
        render.AT_ONCE: [0.5, 0.5],
    }
    lines = render.rows(samples)
    assert [line.ratio for line in lines[:2]] == [3.0, 0.5]
    assert "2 / 2" in report.table(lines)


def test_with_a_cluster_plan_stands_beside_all_six_commands() -> None:
    samples = render.measure(Played(Path("/nowhere/config")), 1, lambda text: None)
    line = render.rows(samples)[-1]
    assert (line.ours, line.plain) == (1.0, 5.0)


def test_a_command_that_fails_is_told(tmp_path: Path) -> None:
    program = tmp_path / "helm"
    program.write_text("#!/bin/sh\necho 'Error: no chart' >&2\nexit 1\n")
    program.chmod(0o755)
    bench = render.Bench(tmp_path, HelmProgram(str(program), "4.2.4"), tmp_path)
    with pytest.raises(TidehubError, match="helm lint x failed") as caught:
        bench.plain("lint", "x")
    assert "no chart" in str(caught.value)
