"""Memory and cores: the machine's, or what the control groups above this process leave of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tidehub.local.isolation.cgroup_bases import Machine
from tidehub.local.machine import machine_cores, machine_memory

GIB = 1 << 30


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text(f"MemTotal: {64 * GIB // 1024} kB\n")
    return tmp_path / "proc"


def v2(root: Path, own: str, files: dict[str, str]) -> Machine:
    for path, value in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(value)
    return Machine(f"30 24 0:26 / {root} rw - cgroup2 cgroup2 rw\n", f"0::{own}\n", root=True, systemd=False)


@pytest.mark.parametrize("where", ["", "a.slice/", "a.slice/b.service/"])
def test_v2_limits_count_wherever_they_stand(proc: Path, tmp_path: Path, where: str) -> None:
    files = {
        "cgroup.controllers": "cpu memory pids",
        "a.slice/b.service/memory.max": "max",
        "a.slice/b.service/cpu.max": "max 100000",
        f"{where}memory.max": str(3 * GIB),
        f"{where}cpu.max": "50000 100000",
        "a.slice/other.service/memory.max": "4096",
        "a.slice/other.service/cpu.max": "1000 100000",
    }
    machine = v2(tmp_path / "cg", "/a.slice/b.service", files)
    assert (machine_memory(proc, machine), machine_cores(machine)) == (3 * GIB, 0.5)


def test_v1_limits_count_wherever_they_stand(proc: Path, tmp_path: Path) -> None:
    for path, value in {
        "memory/memory.limit_in_bytes": "9223372036854771712",
        "memory/docker/memory.limit_in_bytes": str(5 * GIB),
        "memory/docker/x/memory.limit_in_bytes": str(6 * GIB),
        "cpu/docker/cpu.cfs_quota_us": "25000",
        "cpu/docker/cpu.cfs_period_us": "100000",
        "cpu/docker/x/cpu.cfs_quota_us": "-1",
        "cpu/docker/x/cpu.cfs_period_us": "100000",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(value)
    mounts = [
        f"3{n} 24 0:2{n} / {tmp_path}/{c} rw - cgroup cgroup rw,{c}" for n, c in enumerate(("memory", "cpu"))
    ]
    own = "2:memory:/docker/x\n1:cpu:/docker/x\n"
    machine = Machine("\n".join(mounts), own, root=True, systemd=False)
    assert (machine_memory(proc, machine), machine_cores(machine)) == (5 * GIB, 0.25)


def test_without_limits_it_is_the_machine(proc: Path) -> None:
    machine = Machine("", "", root=False, systemd=False)
    assert machine_memory(proc, machine) == 64 * GIB
    assert machine_cores(machine) == len(os.sched_getaffinity(0))
