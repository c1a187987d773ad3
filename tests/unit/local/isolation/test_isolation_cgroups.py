"""Control groups of both versions on fake trees: where, which files, in which order."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cgroup_conduct import KERNEL, conduct
from fake_cgroups import FakeV1, FakeV2, v1_machine, v2_machine

from tidehub.errors import TidehubError
from tidehub.local.isolation.cgroup_bases import find_cgroups, hierarchies
from tidehub.local.isolation.cgroups import Capabilities, Cgroups
from tidehub.local.isolation.model import Limits, Usage

GIB = 1 << 30
LIMITS = Limits(memory=2 * GIB, memory_guarantee=GIB, cores=1.5, cores_guarantee=0.5, processes=100)
ALL = Capabilities(memory=True, swap=True, cpu=True, processes=True)


def found(result: tuple[Cgroups | None, str]) -> Cgroups:
    groups, why = result
    assert groups is not None, why
    return groups


def test_v2_group_files(tmp_path: Path) -> None:
    tree = FakeV2(tmp_path / "cg")
    groups = found(find_cgroups("Main/1", v2_machine(tree)))
    assert groups.capabilities() == ALL
    group = groups.create(70001, "servers", "Lab 1", LIMITS)
    (leaf,) = group.dirs
    assert leaf.parent == tree.root / "tidehub-main-1" / "users" / "70001"
    assert leaf.name.startswith("servers.lab-1---")
    for file, value in {
        "memory.max": str(2 * GIB), "memory.swap.max": "0", "memory.low": str(GIB), "cpu.max": "150000 100000",
        "cpu.weight": "50", "pids.max": "100",
    }.items():  # fmt: skip
        assert (leaf / file).read_text() == value
    assert (leaf / "cgroup.subtree_control").read_text() == ""
    assert (leaf.parent / "cgroup.subtree_control").read_text() == "cpu memory pids"
    subtree = [value for path, value in tree.writes if path == "cgroup.subtree_control"]
    assert subtree == ["+memory", "+cpu", "+pids"]


def test_the_fake_answers_as_the_kernel_does(tmp_path: Path) -> None:
    tree = FakeV2(tmp_path / "cg")
    tree.write(tree.root / "cgroup.subtree_control", "+memory")
    tree.write(tree.root / "cgroup.subtree_control", "+cpu")
    tree.write(tree.root / "cgroup.subtree_control", "+pids")
    tree.make(tree.root / "unit")
    (tree.root / "unit" / "cgroup.procs").write_text("4711")
    assert conduct(tree.root / "unit", "4711", tree.make, tree.write) == KERNEL


def test_v2_promises_are_summed_up_and_down_again(tmp_path: Path) -> None:
    tree = FakeV2(tmp_path / "cg")
    groups = found(find_cgroups("p", v2_machine(tree)))
    first = groups.create(70001, "servers", "a", LIMITS)
    groups.create(70001, "clusters", "b", Limits(memory_guarantee=3 * GIB, cores_guarantee=2))
    groups.create(70002, "servers", "c", Limits())
    user = first.dirs[0].parent
    users, top = user.parent, user.parent.parent

    def read(group: Path, *files: str) -> list[str]:
        return [(group / file).read_text() for file in files]

    assert read(user, "cpu.weight", "memory.low", "memory.max") == ["250", str(4 * GIB), "max"]
    # Whatever was promised, all users together weigh a tenth of the platform.
    assert read(users, "cpu.weight", "memory.low") == ["1000", str(4 * GIB)]
    assert groups.remove(first)
    assert read(user, "cpu.weight", "memory.low") == ["200", str(3 * GIB)]
    assert read(top, "memory.low") == [str(3 * GIB)]


def test_v2_a_users_own_group_is_limited_to_the_sum(tmp_path: Path) -> None:
    tree = FakeV2(tmp_path / "cg")
    groups = found(find_cgroups("p", v2_machine(tree)))
    first = groups.create(70001, "servers", "a", LIMITS)
    second = groups.create(70001, "clusters", "b", LIMITS)
    user = first.dirs[0].parent
    assert ((user / "memory.max").read_text(), (user / "memory.swap.max").read_text()) == (str(4 * GIB), "0")
    groups.remove(first)
    assert (user / "memory.max").read_text() == str(2 * GIB)
    unlimited = groups.create(70001, "clusters", "c", Limits())
    assert ((user / "memory.max").read_text(), (user / "memory.swap.max").read_text()) == ("max", "max")
    groups.remove(unlimited)
    assert (user / "memory.max").read_text() == str(2 * GIB) and groups.remove(second)


def test_v1_a_users_own_group_is_limited_in_the_order_that_the_kernel_wants(tmp_path: Path) -> None:
    tree = FakeV1(tmp_path / "cg")
    groups = found(find_cgroups("p", v1_machine(tree)))
    first = groups.create(70001, "servers", "a", LIMITS)
    user = next(path for path in first.dirs if "memory" in path.parts).parent
    inner = f"{user.relative_to(tree.root)}/"
    tree.writes.clear()
    second = groups.create(70001, "clusters", "b", LIMITS)
    groups.remove(second)
    written = [(path, value) for path, value in tree.writes if path.startswith(inner) and "limit_in" in path]
    mine = [
        (Path(path).name, value)
        for path, value in written
        if Path(path).parent == user.relative_to(tree.root)
    ]
    more, less = str(4 * GIB), str(2 * GIB)
    both, memory = "memory.memsw.limit_in_bytes", "memory.limit_in_bytes"
    assert list(dict.fromkeys(mine)) == [(both, more), (memory, more), (memory, less), (both, less)]


def test_the_platforms_own_group_outweighs_all_users(tmp_path: Path) -> None:
    tree = FakeV2(tmp_path / "cg")
    groups = found(find_cgroups("p", v2_machine(tree)))
    part = groups.part("hub").dirs[0]
    groups.create(70001, "servers", "a", Limits(cores_guarantee=100, memory_guarantee=GIB))
    assert part == tree.root / "tidehub-p" / "platform" / "hub"
    platform, users, top = part.parent, part.parent.parent / "users", part.parent.parent
    assert int((platform / "cpu.weight").read_text()) >= 10 * int((users / "cpu.weight").read_text())
    # What checks passwords on all processors does not keep everybody else's pages waiting.
    identity = groups.part("identity").dirs[0]
    assert int((part / "cpu.weight").read_text()) >= 10 * int((identity / "cpu.weight").read_text())
    for group in (part, platform, top):
        assert int((group / "memory.min").read_text()) == 512 << 20
    assert int((top / "memory.low").read_text()) == 2 * GIB
    groups.enter("supervisor")
    assert (platform / "supervisor" / "cgroup.procs").read_text() == str(os.getpid())
    # A part finds the base in which the supervisor was started, from its own group.
    again = found(find_cgroups("p", v2_machine(tree, "/tidehub-p/platform/hub")))
    assert again.bases == groups.bases


def test_v1_group_files_and_their_order(tmp_path: Path) -> None:
    tree = FakeV1(tmp_path / "cg", "box/7")
    groups = found(find_cgroups("p", v1_machine(tree, "/box/7")))
    assert groups.capabilities() == ALL
    group = groups.create(70001, "servers", "a", LIMITS)
    assert [path.relative_to(tree.root).parts[:4] for path in group.dirs] == [
        (controller, "box", "7", "tidehub-p") for controller in ("cpu", "memory", "pids")
    ]
    for file, value in {
        "memory.limit_in_bytes": str(2 * GIB), "memory.memsw.limit_in_bytes": str(2 * GIB),
        "memory.soft_limit_in_bytes": str(GIB), "cpu.cfs_quota_us": "150000", "cpu.cfs_period_us": "100000",
        "cpu.shares": "512", "pids.max": "100", "memory.kmem.tcp.limit_in_bytes": str(2 * GIB // 8),
    }.items():  # fmt: skip
        assert group.read(file) == value
    written = [Path(path).name for path, _ in tree.writes if group.dirs[0].name in path]
    assert written.index("memory.limit_in_bytes") < written.index("memory.memsw.limit_in_bytes")


def test_no_limits_write_no_limits(tmp_path: Path) -> None:
    tree = FakeV2(tmp_path / "cg")
    group = found(find_cgroups("p", v2_machine(tree))).create(70001, "servers", "a", Limits())
    assert group.read("memory.max") == group.read("pids.max") == "max"
    assert group.read("cpu.weight") == "10"


def test_v2_without_some_controllers_is_told(tmp_path: Path) -> None:
    tree = FakeV2(tmp_path / "cg", "memory pids io")
    groups = found(find_cgroups("p", v2_machine(tree)))
    assert groups.capabilities() == Capabilities(memory=True, swap=True, cpu=False, processes=True)


def test_v2_delegated_group_moves_the_platform_into_a_leaf(tmp_path: Path) -> None:
    tree = FakeV2(tmp_path / "cg")
    own = tree.root / "svc"
    (tree.root / "cgroup.subtree_control").write_text("cpu memory pids")
    tree.make(own)
    (own / "cgroup.procs").write_text("11\n12")
    groups = found(
        find_cgroups("p", v2_machine(tree, "/svc", root=False, systemd=True, delegated="svc")),
    )
    assert groups.bases == (own,)
    assert (own / "tidehub-platform" / "cgroup.procs").read_text().split() == ["11", "12"]
    assert (own / "cgroup.procs").read_text() == ""
    # A part of the platform started afterwards finds itself in the leaf and the same base.
    again = found(
        find_cgroups(
            "p", v2_machine(tree, "/svc/tidehub-platform", root=False, systemd=True, delegated="svc")
        )
    )
    assert again.bases == (own,)


def test_v2_users_groups_have_the_scope_that_systemd_made_for_them(tmp_path: Path) -> None:
    tree = FakeV2(tmp_path / "cg")
    for controller in ("memory", "cpu", "pids"):
        tree.write(tree.root / "cgroup.subtree_control", f"+{controller}")
    unit, holder = tree.root / "unit.service", tree.root / "tidehub.slice" / "tidehub-p-users.scope"
    tree.make(unit)
    tree.make(holder.parent)
    for controller in ("memory", "cpu", "pids"):
        tree.write(holder.parent / "cgroup.subtree_control", f"+{controller}")
    tree.make(holder)
    (holder / "cgroup.procs").write_text("99")
    groups = found(
        find_cgroups("p", v2_machine(tree, "/unit.service", systemd=True, delegated="unit.service"))
    )
    assert (groups.bases, groups.platform_bases) == ((holder,), (unit,))
    assert groups.create(70001, "servers", "a", LIMITS).dirs[0].is_relative_to(holder)
    assert groups.part("hub").dirs[0].is_relative_to(unit)
    # A unit without Delegate=yes: limits hold all the same.
    apart = found(find_cgroups("p", v2_machine(tree, "/unit.service", systemd=True)))
    assert (apart.bases, apart.platform_bases) == ((holder,), ())


def test_v2_a_group_that_was_spoilt_is_made_whole_or_named(tmp_path: Path) -> None:
    tree = FakeV2(tmp_path / "cg")
    for controller in ("memory", "cpu", "pids"):
        tree.write(tree.root / "cgroup.subtree_control", f"+{controller}")
    unit = tree.root / "unit.service"
    tree.make(unit)
    (unit / "cgroup.procs").write_text("11")
    tree.write(unit / "cgroup.subtree_control", "+cpu")
    assert (unit / "cgroup.type").read_text() == "domain threaded"
    machine = v2_machine(tree, "/unit.service", systemd=True, delegated="unit.service")
    assert found(find_cgroups("p", machine)).capabilities() == ALL
    (unit / "cgroup.type").write_text("domain invalid")
    groups, why = find_cgroups("p", machine)
    assert groups is None and "is unusable (domain invalid)" in why


def test_v2_a_users_scope_is_known_by_its_owner(tmp_path: Path) -> None:
    tree = FakeV2(tmp_path / "cg")
    for controller in ("memory", "cpu", "pids"):
        tree.write(tree.root / "cgroup.subtree_control", f"+{controller}")
    tree.make(tree.root / "app.scope")
    (tree.root / "app.scope" / "cgroup.procs").write_text("11\n12")
    machine = v2_machine(tree, "/app.scope", root=False, systemd=True, owned="app.scope")
    groups, why = find_cgroups("p", machine)
    assert found((groups, why)).bases == (tree.root / "app.scope",)
    tree = FakeV2(tmp_path / "other")
    for controller in ("memory", "cpu", "pids"):
        tree.write(tree.root / "cgroup.subtree_control", f"+{controller}")
    tree.make(tree.root / "terminal.scope")
    (tree.root / "terminal.scope" / "cgroup.procs").write_text("11\n12\n13")
    machine = v2_machine(tree, "/terminal.scope", root=False, systemd=True, owned="terminal.scope")
    groups, why = find_cgroups("p", machine)
    assert groups is None and "process 13" in why
    assert (tree.root / "terminal.scope" / "cgroup.procs").read_text() == "11\n12\n13"


def test_v2_root_never_touches_what_is_systemds(tmp_path: Path) -> None:
    tree = FakeV2(tmp_path / "cg")
    tree.make(tree.root / "session")
    groups, why = find_cgroups("p", v2_machine(tree, "/session", systemd=True))
    assert groups is None and "tidehub service install)" in why and tree.writes == []


def test_v2_of_others_is_never_rearranged(tmp_path: Path) -> None:
    tree = FakeV2(tmp_path / "cg")
    (tree.root / "cgroup.subtree_control").write_text("cpu memory pids")
    tree.make(tree.root / "session")
    (tree.root / "session" / "cgroup.procs").write_text("11")
    groups, why = find_cgroups("p", v2_machine(tree, "/session", root=False, systemd=True))
    assert groups is None and "tidehub service install --user)" in why
    assert (tree.root / "session" / "cgroup.procs").read_text() == "11"


def test_v1_for_ordinary_users_is_refused_in_words(tmp_path: Path) -> None:
    groups, why = find_cgroups("p", v1_machine(FakeV1(tmp_path / "cg"), root=False))
    assert groups is None and why == "the control groups here may only be changed by root"


def test_a_machine_without_groups(tmp_path: Path) -> None:
    machine = v2_machine(FakeV2(tmp_path / "cg", "io hugetlb"))
    groups, why = find_cgroups("p", machine)
    assert groups is None and "mounts no control groups" in why


def test_container_mounts_are_relative_to_their_root(tmp_path: Path) -> None:
    tree = FakeV1(tmp_path / "cg dir")
    machine = v1_machine(tree, "/docker/abc/inner")
    escaped = machine.mountinfo.replace(f"/ {tree.root}", f"/docker/abc {tree.root}").replace(
        "cg dir", "cg\\040dir"
    )
    places = {h.own for h in hierarchies(type(machine)(**{**machine.__dict__, "mountinfo": escaped}))}
    assert tree.root / "memory" / "inner" in places


def test_names_are_never_used_twice(tmp_path: Path) -> None:
    groups = found(find_cgroups("p", v2_machine(FakeV2(tmp_path / "cg"))))
    assert len({groups.create(70001, "servers", "same", Limits()).dirs for _ in range(5)}) == 5


def test_groups_with_processes_stay(tmp_path: Path) -> None:
    tree = FakeV2(tmp_path / "cg")
    groups = found(find_cgroups("p", v2_machine(tree)))
    busy = groups.create(70001, "servers", "a", Limits())
    empty = groups.create(70002, "clusters", "b", Limits())
    (busy.dirs[0] / "cgroup.procs").write_text("4711")
    assert [group.dirs for group in groups.all("clusters")] == [empty.dirs]
    assert not groups.remove(busy)
    groups.dismantle()
    assert busy.dirs[0].exists() and not empty.dirs[0].parent.exists()
    busy.kill()
    assert ("tidehub-p/users/70001/" + busy.dirs[0].name + "/cgroup.kill", "1") in tree.writes
    groups.dismantle()
    assert not (tree.root / "tidehub-p").exists()


def test_a_refused_limit_leaves_no_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = FakeV2(tmp_path / "cg")
    groups = found(find_cgroups("p", v2_machine(tree)))
    write = FakeV2.write

    def refuse(self: FakeV2, path: Path, value: str) -> None:
        if path.name == "pids.max":
            raise OSError(22, "Invalid argument")
        write(self, path, value)

    monkeypatch.setattr(FakeV2, "write", refuse)
    with pytest.raises(TidehubError, match=r"pids\.max.*Invalid argument"):
        groups.create(70001, "servers", "a", Limits(processes=-5))
    assert groups.all() == []


def test_counters_are_read(tmp_path: Path) -> None:
    v2 = found(find_cgroups("p", v2_machine(FakeV2(tmp_path / "two")))).create(1, "servers", "a", Limits())
    (v2.dirs[0] / "memory.events").write_text("low 1\noom 9\noom_kill 3\noom_group_kill 0")
    (v2.dirs[0] / "memory.current").write_text("1000")
    (v2.dirs[0] / "memory.stat").write_text("anon 600\ninactive_file 300\n")
    (v2.dirs[0] / "cgroup.procs").write_text("5\n6\n")
    assert v2.memory_kills() == 3
    assert v2.usage() == Usage(memory=700, processes=2)
    v1 = found(find_cgroups("p", v1_machine(FakeV1(tmp_path / "one")))).create(1, "servers", "a", Limits())
    for directory in v1.dirs:
        if "memory" in str(directory):
            (directory / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2")
            (directory / "memory.usage_in_bytes").write_text("1000")
            (directory / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 400")
    assert v1.memory_kills() == 2
    assert v1.usage() == Usage(memory=600, processes=0)


def test_v1_kill_sweeps_until_empty(tmp_path: Path) -> None:
    group = found(find_cgroups("p", v1_machine(FakeV1(tmp_path / "cg")))).create(1, "servers", "a", Limits())
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    procs = next(path for path in group.dirs if "pids" in str(path)) / "cgroup.procs"
    procs.write_text(str(child.pid))
    group.signal_kill()
    assert child.wait(10) == -9
    assert group.read("pids.max") == "0"
    procs.write_text(str(os.getppid()))
    procs.write_text("")
    group.kill()
