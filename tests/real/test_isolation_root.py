"""As root: uids, control groups, limits, ends; with real processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from isolation_programs import (
    FAMILY,
    MIB,
    UIDS,
    appears,
    ended,
    holds,
    log_writer,
    places,
    probe,
    processes_with,
    python,
    server_spec,
    spec,
    written,
)

from tidehub.errors import TidehubError
from tidehub.local.isolation import Isolation, LaunchSpec, Limits, ProcessHandle, choose_isolation, proxy_uid

pytestmark = [
    pytest.mark.real,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for users with uids of their own"),
]


@pytest.fixture
async def isolation() -> AsyncIterator[Isolation]:
    # Not pytest's own temporary directories: users could not walk through them to their homes; and not /tmp, where
    # they see their own alone.
    root = Path(tempfile.mkdtemp(prefix="iso-", dir="/var/lib"))
    chosen = choose_isolation(places(root), uids=UIDS)
    assert chosen.kind == "root"
    with log_writer(chosen):
        yield chosen
    await chosen.stop_all(grace=0)
    chosen.dismantle()
    assert chosen.running() == []
    if chosen.ground.cgroups is not None:
        left = [base / chosen.ground.cgroups.name for base in chosen.ground.cgroups.bases]
        assert not any(path.exists() for path in left)
    shutil.rmtree(root)


RANGE = json.dumps([UIDS.start, UIDS.stop])


def with_groups(isolation: Isolation) -> None:
    if not isolation.capabilities.memory:
        pytest.skip(f"no memory control group on this machine: {isolation.ground.no_cgroups}")


async def test_a_program_has_the_users_identity_and_nothing_else(isolation: Isolation) -> None:
    user = isolation.user("Zoë Müller")
    code = """
import json, os, pwd, sys
def account():
    try: return pwd.getpwuid(os.getuid()).pw_name
    except KeyError: return None
status = dict(l.split(":", 1) for l in open("/proc/self/status").read().splitlines())
print(json.dumps({"uids": os.getresuid(), "gids": os.getresgid(), "groups": os.getgroups(), "account": account(),
  "umask": os.umask(0), "env": dict(os.environ), "cwd": os.getcwd(), "session": os.getsid(0) == os.getpid(),
  "fds": sorted(int(f) for f in os.listdir("/proc/self/fd")), "nnp": status["NoNewPrivs"].strip(),
  "caps": int(status["CapEff"], 16), "blocked": int(status["SigBlk"], 16),
  "oom": open("/proc/self/oom_score_adj").read().strip(),
  "stdin": os.path.realpath("/proc/self/fd/0"), "args": sys.argv[1:]}))
"""
    made = spec(isolation, user, code, "ünï", "a b")
    handle = isolation.launch(replace(made, env={**made.env, "LANG": "C.UTF-8", "GIVEN": "sœcret"}))
    await ended(isolation, handle)
    said = json.loads(written(isolation, made))
    assert said["uids"] == [user.uid] * 3 and said["gids"] == [user.uid] * 3
    assert said["account"] == user.home.name and said["groups"] in ([], [user.gid])
    assert said["umask"] == 0o077 and said["cwd"] == str(user.home)
    assert (said["nnp"], said["caps"], said["blocked"], said["oom"]) == ("1", 0, 0, "300")
    assert said["session"] and said["stdin"] == "/dev/null" and said["args"] == ["ünï", "a b", str(user.home)]
    assert said["fds"] in ([0, 1, 2], [0, 1, 2, 3])  # the listing itself is 3
    assert said["env"].pop("LC_CTYPE", "C.UTF-8") == "C.UTF-8"
    assert said["env"] == {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "GIVEN": "sœcret",
        "HOME": str(user.home),
        "USER": user.home.name,
        "LOGNAME": user.home.name,
        "SHELL": "/bin/bash",
    }
    log = made.log.stat()
    assert (log.st_uid, stat.S_IMODE(log.st_mode)) == (0, 0o600)
    home = user.home.stat()
    assert (home.st_uid, home.st_gid, stat.S_IMODE(home.st_mode)) == (user.uid, user.gid, 0o700)
    assert isolation.ending(handle).code == 0


LOOK = """
import getpass, grp, json, os, pwd, subprocess
def run(*argv): return subprocess.run(argv, capture_output=True, text=True)
def attempt(what):
    try: return f"done: {what()}"
    except OSError as error: return type(error).__name__
me = pwd.getpwuid(os.getuid())
ssh = run("ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=1", "-p", "9", "127.0.0.1").stderr
print(json.dumps({"whoami": run("whoami").stdout.strip(), "id": run("id").stdout.strip(), "me": list(me),
  "group": grp.getgrgid(os.getgid()).gr_name, "env": os.environ["USER"], "home": os.path.expanduser("~" + me.pw_name),
  "root": pwd.getpwuid(0).pw_name, "roots": pwd.getpwnam("root").pw_uid, "ssh": ssh,
  "mounts": open("/proc/self/mountinfo").read(),
  "modes": [oct(os.stat(f).st_mode & 0o7777) + str(os.stat(f).st_uid) for f in ("/etc/passwd", "/etc/group")],
  "write": [attempt(lambda: open(f, "a")) for f in ("/etc/passwd", "/etc/group")],
  "chmod": attempt(lambda: os.chmod("/etc/passwd", 0o666)),
  "replace": attempt(lambda: os.rename("/etc/passwd", "/etc/p")),
  "umount": run("umount", "/etc/passwd").returncode, "tmp": os.listdir("/tmp")}))
"""


@pytest.mark.parametrize(
    ("hub_name", "expected"),
    [
        ("alice", "alice"),
        ("Zoë Müller", None),
        ("a:b\nroot:x:0:0::/:/bin/sh", None),
        ("root", ""),
        ("-n", None),
    ],
)
async def test_programs_find_their_user_in_passwd_and_cannot_change_it(
    isolation: Isolation, hub_name: str, expected: str | None
) -> None:
    """`expected`: None for the name of the home directory, "" for one that is made because that is an account's."""
    before = [Path(path).read_bytes() for path in ("/etc/passwd", "/etc/group")]
    user = isolation.user(hub_name)
    name = {None: user.home.name, "": f"user-{user.uid}"}.get(expected, expected)
    made = spec(isolation, user, LOOK)
    handle = isolation.launch(made)
    await ended(isolation, handle)
    said = json.loads(written(isolation, made))
    assert (said["whoami"], said["group"], said["env"]) == (name, name, name)
    assert said["me"] == [name, "x", user.uid, user.gid, name, str(user.home), "/bin/bash"]
    assert said["id"].startswith(f"uid={user.uid}({name}) gid={user.gid}({name})")
    assert said["home"] == str(user.home) and (said["root"], said["roots"]) == ("root", 0)
    assert "No user exists" not in said["ssh"]
    assert said["modes"] == ["0o4440"] * 2 and said["tmp"] == []
    assert set(said["write"]) | {said["chmod"], said["replace"]} <= {"PermissionError", "OSError"}
    assert said["umount"] != 0
    for path in ("/etc/passwd", "/etc/group"):
        (mount,) = [line for line in said["mounts"].splitlines() if f" {path} " in line]
        assert mount.split()[5].startswith("ro,")
    assert [Path(path).read_bytes() for path in ("/etc/passwd", "/etc/group")] == before


async def test_users_cannot_reach_each_other(isolation: Isolation) -> None:
    alice, bob = isolation.user("alice"), isolation.user("bob")
    assert alice.uid != bob.uid
    made, path = server_spec(isolation, alice, limits=Limits(memory=256 * MIB))
    handle = isolation.launch(made)
    await appears(alice.home / "ready")
    seen = await probe(isolation, bob, alice, handle, path)
    denied = (
        "home",
        "file",
        "homes",
        "private",
        "environ",
        "cwd",
        "root",
        "memory",
        "kill",
        "socket",
        "system",
    )
    assert {key: seen[key] for key in denied} == dict.fromkeys(denied, "PermissionError")
    assert not seen["token"]
    assert seen["own"] == "done: 4"
    if handle.cgroup:
        assert "PermissionError" in seen["cgroups"]
        assert all(outcome in ("PermissionError", "FileNotFoundError") for outcome in seen["cgroups"])
    assert isolation.alive(handle)
    # The same attempts succeed for the user themself: the probe does look.
    own = await probe(isolation, alice, alice, handle, path)
    assert own["file"] == "done: secret" and own["socket"] == "done: hello" and own["token"]
    assert own["kill"].startswith("done") and isolation.ending(handle).signal in (None, 15)


async def test_the_proxy_may_connect_but_not_look(isolation: Isolation) -> None:
    user = isolation.user("alice")
    made, path = server_spec(isolation, user)
    isolation.launch(made)
    await appears(user.home / "ready")
    directory = path.parent.stat()
    assert (directory.st_uid, directory.st_gid) == (user.uid, proxy_uid(UIDS))
    assert stat.S_IMODE(directory.st_mode) == 0o2710 and path.stat().st_gid == proxy_uid(UIDS)
    code = (
        "import os, socket, sys\nc = socket.socket(socket.AF_UNIX); c.connect(sys.argv[1]); print(c.recv(9).decode())\n"
        "try: os.listdir(os.path.dirname(sys.argv[1])); print('listed')\nexcept PermissionError: print('not listed')"
    )
    uid = proxy_uid(UIDS)
    done = subprocess.run(
        [python(), "-c", code, str(path)],
        user=uid,
        group=uid,
        extra_groups=[],
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().split("\n")[:2] == ["hello", "not listed"]


async def test_memory_limit_kills_and_is_told(isolation: Isolation) -> None:
    with_groups(isolation)
    user = isolation.user("alice")
    limits = Limits(memory=64 * MIB)
    handle = isolation.launch(spec(isolation, user, "x = bytearray(200 << 20)", limits=limits))
    await ended(isolation, handle)
    later = choose_isolation(places(isolation.ground.private.parent), uids=UIDS)
    for one, number in ((isolation, 9), (later, None)):
        ending = one.ending(ProcessHandle.from_state(json.loads(json.dumps(handle.to_state()))))
        assert (ending.signal, ending.out_of_memory, ending.limit) == (number, True, 64 * MIB)
        assert ending.status == 137 and ending.words() == "stopped: out of memory (limit 64 MiB)"
    isolation.clean(handle)
    assert isolation.ending(handle).out_of_memory
    assert not any(Path(directory).exists() for directory in handle.cgroup)


async def test_a_kernel_killed_for_memory_inside_a_living_server_is_counted(isolation: Isolation) -> None:
    with_groups(isolation)
    code = """
import subprocess, sys, time
done = subprocess.run([sys.executable, "-c", "x = bytearray(300 << 20)"])
open("ready", "w").write(str(done.returncode))
time.sleep(600)
"""
    user = isolation.user("alice")
    handle = isolation.launch(spec(isolation, user, code, limits=Limits(memory=96 * MIB)))
    await appears(user.home / "ready")
    await holds(lambda: (user.home / "ready").read_text() == "-9")
    assert isolation.alive(handle) and isolation.memory_kills(handle) == 1
    used = isolation.usage(handle)
    assert 1 * MIB < used.memory < 96 * MIB and used.processes == 1
    await isolation.stop(handle, grace=5)
    ending = isolation.ending(handle)
    assert (ending.signal, ending.out_of_memory) == (15, False)


async def test_the_number_of_processes_is_limited(isolation: Isolation) -> None:
    code = """
import os, sys, time
made = 0
try:
    while made < 100:
        if os.fork() == 0:
            time.sleep(600)
        made += 1
except BlockingIOError:
    open("made", "w").write(str(made)); open("ready", "w").close()
time.sleep(600)
"""
    user = isolation.user("alice")
    handle = isolation.launch(spec(isolation, user, code, limits=Limits(processes=20)))
    await appears(user.home / "ready")
    assert 10 <= int((user.home / "made").read_text()) <= 19
    if handle.cgroup:
        assert isolation.usage(handle).processes == 20
    await isolation.stop(handle, grace=0)
    assert processes_with("os.fork()", [user.uid]) == []


async def test_the_cpu_quota_throttles(isolation: Isolation) -> None:
    if not isolation.capabilities.cpu:
        pytest.skip("no CPU control group on this machine")
    code = """
import time
start = time.monotonic()
while time.monotonic() < start + 3: pass
print(time.process_time() / (time.monotonic() - start))
"""
    user = isolation.user("alice")
    made = spec(isolation, user, code, limits=Limits(cores=0.4))
    handle = isolation.launch(made)
    await ended(isolation, handle)
    assert 0 < float(written(isolation, made)) <= 0.5


async def test_stop_leaves_nobody(isolation: Isolation) -> None:
    user = isolation.user("alice")
    made = spec(isolation, user, FAMILY.format(then="time.sleep(600)"))
    handle = isolation.launch(made)
    await appears(user.home / "ready")
    assert len(processes_with("time.sleep(600)", [user.uid])) == 3
    await isolation.stop(handle, grace=10)
    assert processes_with("", [user.uid]) == []
    assert not isolation.alive(handle) and isolation.ending(handle).signal == 15
    assert not any(Path(directory).exists() for directory in handle.cgroup)
    await isolation.stop(handle, grace=10)  # a second time is nothing


async def test_who_ignores_sigterm_is_killed_after_the_grace(isolation: Isolation) -> None:
    code = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); open('ready', 'w').close(); time.sleep(600)"
    )
    user = isolation.user("alice")
    handle = isolation.launch(spec(isolation, user, code))
    await appears(user.home / "ready")
    start = time.monotonic()
    await isolation.stop(handle, grace=0.5)
    assert time.monotonic() - start >= 0.5
    assert isolation.ending(handle).signal == 9


async def test_a_server_that_ended_leaves_its_kernels_to_clean(isolation: Isolation) -> None:
    user = isolation.user("alice")
    handle = isolation.launch(spec(isolation, user, FAMILY.format(then="raise SystemExit(7)")))
    await ended(isolation, handle)
    assert isolation.ending(handle).code == 7
    assert len(processes_with("time.sleep(600)", [user.uid])) == 2
    isolation.clean(handle)
    assert processes_with("", [user.uid]) == [] and isolation.ending(handle).code == 7


async def test_a_server_started_anew_does_not_meet_its_old_kernels(isolation: Isolation) -> None:
    user = isolation.user("alice")
    crashed = isolation.launch(spec(isolation, user, FAMILY.format(then="raise SystemExit(7)")))
    await ended(isolation, crashed)
    fresh = isolation.launch(spec(isolation, user, "import time; time.sleep(500)"))
    assert processes_with("time.sleep(600)", [user.uid]) == [] and isolation.alive(fresh)
    assert isolation.ending(crashed).code == 7 and not any(
        Path(directory).exists() for directory in crashed.cgroup
    )


async def test_handles_survive_a_restart(isolation: Isolation) -> None:
    user = isolation.user("alice")
    script = """
import json, sys; from pathlib import Path
sys.path[:0] = json.loads(sys.argv[2])
from isolation_programs import places, spec
from tidehub.local.isolation import choose_isolation
isolation = choose_isolation(places(Path(sys.argv[1])), uids=range(*json.loads(sys.argv[3])))
handle = isolation.launch(spec(isolation, isolation.user("alice"), "import time; time.sleep(600)"))
print(json.dumps(handle.to_state()))
"""
    path = json.dumps([str(Path(__file__).parent), *sys.path])
    root = isolation.ground.private.parent
    done = subprocess.run(
        [sys.executable, "-c", script, str(root), path, RANGE], stdout=subprocess.PIPE, check=True
    )
    handle = ProcessHandle.from_state(json.loads(done.stdout))
    assert isolation.alive(handle)
    assert [(line.user, line.name, line.handle) for line in isolation.running("servers")] == [
        ("alice", "lab", handle)
    ]
    await isolation.stop(handle, grace=5)
    ending = isolation.ending(handle)
    assert (ending.code, ending.signal, ending.out_of_memory) == (None, None, False)
    assert "restarted" in ending.words() and processes_with("", [user.uid]) == []


async def test_a_platform_that_dies_at_the_wrong_moment_starts_nothing(isolation: Isolation) -> None:
    user = isolation.user("alice")
    script = """
import json, os, sys; from pathlib import Path
sys.path[:0] = json.loads(sys.argv[2])
from isolation_programs import places, spec
from tidehub.local.isolation import choose_isolation, launches
launches.Launches.record = lambda *args, **more: os._exit(5)
isolation = choose_isolation(places(Path(sys.argv[1])), uids=range(*json.loads(sys.argv[3])))
isolation.launch(spec(isolation, isolation.user("alice"), "open('started', 'w')"))
"""
    path = json.dumps([str(Path(__file__).parent), *sys.path])
    root = isolation.ground.private.parent
    assert subprocess.run([sys.executable, "-c", script, str(root), path, RANGE], check=False).returncode == 5
    await holds(lambda: processes_with("", [user.uid]) == [])
    assert not (user.home / "started").exists() and isolation.running() == []
    assert await isolation.tidy("servers", []) == []  # removes the group that was left


async def test_strays_are_ended_and_others_kept(isolation: Isolation) -> None:
    user = isolation.user("alice")
    sleep = "import time; time.sleep(600)"
    kept = isolation.launch(spec(isolation, user, sleep, name="kept"))
    lost = isolation.launch(spec(isolation, user, sleep, name="lost"))
    cluster = isolation.launch(spec(isolation, user, sleep, name="worker", parent="clusters"))
    assert await isolation.tidy("servers", [kept], grace=5) == ["lost"]
    assert [isolation.alive(one) for one in (kept, lost, cluster)] == [True, False, True]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["/nowhere/prog"], "starting /nowhere/prog: No such file"),
        (["/etc/fstab"], "starting /etc/fstab: Permission denied"),
    ],
)
async def test_what_cannot_start_is_said_and_leaves_nothing(
    isolation: Isolation, argv: list[str], says: str
) -> None:
    user = isolation.user("alice")
    made = replace(spec(isolation, user, ""), argv=argv, limits=Limits(memory=64 * MIB))
    with pytest.raises(TidehubError, match=f"cannot start 'lab' for 'alice': {says}"):
        isolation.launch(made)
    with pytest.raises(TidehubError, match="entering /root: Permission denied"):
        isolation.launch(replace(made, argv=["/bin/true"], cwd=Path("/root")))
    assert isolation._launches.all() == [] and processes_with("", [user.uid]) == []
    if isolation.ground.cgroups is not None:
        assert isolation.ground.cgroups.all() == []


async def test_nobody_is_started_outside_the_range(isolation: Isolation) -> None:
    user = isolation.user("alice")
    for uid, gid in ((0, 0), (user.uid, 0), (65534, 65534)):
        with pytest.raises(TidehubError, match="expected: a user of this platform"):
            isolation.launch(spec(isolation, replace(user, uid=uid, gid=gid), "print('no')"))


async def test_a_home_of_somebody_else_is_refused(isolation: Isolation) -> None:
    (isolation.ground.homes / "alice").mkdir()
    with pytest.raises(TidehubError, match="belongs to uid 0"):
        isolation.user("alice")


async def test_a_cancelled_start_leaves_nothing(
    isolation: Isolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, launch, launched = isolation.user("alice"), isolation.launch, threading.Event()

    def watched(one: LaunchSpec) -> ProcessHandle:
        try:
            return launch(one)
        finally:
            launched.set()

    monkeypatch.setattr(isolation, "launch", watched)
    work = asyncio.create_task(isolation.start(spec(isolation, user, "import time; time.sleep(600)")))
    await asyncio.sleep(0)  # the launch is under way in its thread
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work
    assert await asyncio.to_thread(launched.wait, 60)
    await holds(lambda: isolation._launches.all() == [] and processes_with("", [user.uid]) == [])


async def test_twenty_at_once(isolation: Isolation) -> None:
    users = [isolation.user(f"p{number}") for number in range(20)]
    sleep = "import time; time.sleep(600)"
    handles = await asyncio.gather(
        *(isolation.start(spec(isolation, one, sleep, name=one.name)) for one in users)
    )
    assert len({handle.pid for handle in handles}) == 20 and all(
        isolation.alive(handle) for handle in handles
    )
    await isolation.stop_all(grace=5)
    assert processes_with("", [one.uid for one in users]) == []


def test_a_socket_path_fits(isolation: Isolation) -> None:
    """The run directory must leave room: a path in sockaddr_un holds 107 bytes (unix(7))."""
    path = isolation.make_server_directory(isolation.user("x" * 255), "default")
    assert len(str(path.relative_to(isolation.ground.run))) <= len("u//default") + len(str(UIDS.stop))
    assert str(path.relative_to(isolation.ground.run)).islower()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path / "a.sock"))
