"""What the bench makes of samples and of /proc."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from tidehub_bench import machine, main, memory, report
from tidehub_bench.crowd import Crowd, Served
from tidehub_bench.measure import Results, Together
from tidehub_bench.statistics import median, percentile

MIB = 2**20
ROLLUP = """00400000-7ffd36a2d000 ---p 00000000 00:00 0                      [rollup]
Rss:              120000 kB
Pss:              100352 kB
Pss_Dirty:         90000 kB
Private_Clean:      1024 kB
Private_Dirty:     50176 kB
"""


@pytest.mark.parametrize(("share", "expected"), [(0.95, 19.0), (0.5, 10.0), (1.0, 20.0), (0.0, 1.0)])
def test_percentile_is_a_sample_of_nearest_rank(share: float, expected: float) -> None:
    assert percentile([float(number) for number in range(20, 0, -1)], share) == expected


def test_median_of_odd_and_even_counts() -> None:
    assert median([3, 1, 2]) == 2
    assert median([4, 1, 3, 2]) == 2.5


@pytest.mark.parametrize("figure", [median, lambda samples: percentile(samples, 0.5)])
def test_no_samples_is_an_error(figure: Any) -> None:
    with pytest.raises(ValueError, match="no samples"):
        figure([])


def test_rollup_gives_pss_and_private_bytes() -> None:
    assert memory.read_rollup(ROLLUP) == (98 * MIB, 50 * MIB)


def test_memory_of_a_tree_leaves_out_what_ended(tmp_path: Path) -> None:
    for pid in ("7", "8"):
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "smaps_rollup").write_text(ROLLUP)
    assert memory.of_processes([7, 8, 9], tmp_path) == memory.Memory(196 * MIB, 100 * MIB, 2)


def test_environment_is_read_as_the_kernel_writes_it(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "environ").write_bytes(b"A=1\0B=x=y\0\0NOTHING\0")
    assert memory.environment_of(7, tmp_path) == {"A": "1", "B": "x=y"}
    assert memory.environment_of(8, tmp_path) == {}


def test_processor_has_a_name_everywhere() -> None:
    assert machine.processor("processor : 0\nmodel name\t: Fast CPU @ 2 GHz\n") == "Fast CPU @ 2 GHz"
    assert machine.processor("processor : 0\n") == os.uname().machine


def _results(factor: float, succeeded: int = 3) -> Results:
    seconds = [factor * number for number in (1.0, 2.0, 3.0)][:succeeded]
    return Results(
        login_page=[2.0 * factor],
        gateway=[3.0 * factor],
        spawn=[factor * number for number in (1.0, 2.0, 4.0)],
        together=[
            Together(succeeded, 3, seconds[-1], seconds, ["500: took too long"] if succeeded < 3 else [], 0.5)
        ],
        memory=[memory.Memory(int(100 * MIB * factor), int(80 * MIB * factor), 2)],
        cluster=[{"total": 4.0 * factor}],
    )


def test_rows_compare_plain_with_ours() -> None:
    found = {row.what: row for row in report.rows(_results(1), _results(3))}
    spawn = found["one spawn after the other, p50"]
    assert (spawn.ours, spawn.plain, spawn.ratio, spawn.samples) == (2.0, 6.0, 3.0, "3 / 3")
    assert found["idle server, PSS"].ratio == pytest.approx(3)
    assert found["all at once, wall until the last that came"].ours == 3.0
    assert found["cluster with two workers to first result, max"].plain == 12.0


def test_table_shows_failures_of_one_side_and_no_ratio_of_counts() -> None:
    ours, plain = _results(1), _results(3, succeeded=1)
    text = report.table(report.rows(ours, plain))
    count = next(line for line in text.splitlines() if "servers that came" in line)
    assert count.split()[-5:] == ["3", "1", "3", "/", "3"]
    assert report.failures(ours) == []
    assert report.failures(plain) == ["2 of 3 at once got no server: 500: took too long"]


def test_nothing_measured_is_shown_as_such() -> None:
    empty = Results()
    text = report.table(report.rows(empty, _results(1)))
    spawn = next(line for line in text.splitlines() if "p50" in line)
    assert spawn.split()[-6:] == ["-", "2.00", "0", "/", "3"] or "-" in spawn.split()


def test_json_has_every_sample_and_is_json() -> None:
    results = {"tidehub": _results(1), "plain": _results(3)}
    whole = report.to_json(report.rows(results["tidehub"], results["plain"]), results, {"cores": 2})
    again = json.loads(json.dumps(whole))
    assert again["samples"]["plain"]["spawn"] == [3.0, 6.0, 12.0]
    assert again["figures"][2]["ratio"] == 3.0
    assert again["machine"] == {"cores": 2}


def test_only_some_parts_of_a_plan() -> None:
    assert main.only(main.FULL, None) == main.FULL
    crowd = main.only(main.FULL, ["crowd", "spawns"])
    assert (crowd.spawns, crowd.rounds_of_crowds, crowd.crowd) == (20, 1, 40)
    assert (crowd.starts, crowd.clusters, crowd.idle_servers, crowd.rounds_at_once) == (0, 0, 0, 0)


def test_a_crowd_is_reported_by_whom_it_served_and_what_the_stranger_saw() -> None:
    ours, plain = Results(), Results()
    ours.crowd.append(
        Crowd(
            [Served("a", 1.0, 2.0, 3.0), Served("b", 1.5, 2.5, 4.0)],
            login_page=[0.01 * number for number in range(1, 21)],
        )
    )
    plain.crowd.append(
        Crowd(
            [Served("a", 1.0, 2.0, 6.0), Served("b", 1.0, failure="the start failed")],
            login_page=[0.5],
            login_page_failures=["login page: code 503"],
        )
    )
    shown = {row.what: row for row in report.rows(ours, plain)}
    assert (shown["crowd, users served"].ours, shown["crowd, users served"].plain) == (2, 1)
    assert shown["crowd, users served"].samples == "2 / 2"
    assert shown["crowd, from the login page to a cell, the last"].ratio == 1.5
    assert shown["crowd, login page meanwhile, p95"].ours == pytest.approx(0.19)
    assert report.failures(plain) == [
        "in the crowd: login page: code 503",
        "in the crowd: the start failed",
    ]
    assert json.dumps(report.to_json(report.rows(ours, plain), {"tidehub": ours, "plain": plain}, {}))
