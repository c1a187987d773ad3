"""Limits as users meet them, the same stories wherever a platform has control groups: root's and a delegated one."""

from __future__ import annotations

import json

from guest_platform import GuestPlatform

LIMIT = 2**30
"""Bytes: the memory limit of the profile "minimal", whose CPU limit is one core, all that a guest has."""

TAKE = "mmap.mmap(-1, 2**24, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)"
"""16 MiB, of which the guest's kernel takes every page at once: one by one costs a guest 50 µs each."""
HOG = f"import mmap\nblock = []\nwhile True: block.append({TAKE})"
HOG_CHILD = f"""
import subprocess, sys
print(subprocess.run([sys.executable, "-c", {HOG!r}]).returncode)
"""
FORK_BOMB = """
import json, os, signal, time
children, refused = [], ""
while not refused and len(children) < 5000:
    try:
        child = os.fork()
    except OSError as error:
        refused = error.strerror
    else:
        if child == 0:
            signal.pause()
        children.append(child)
for child in children:
    os.kill(child, signal.SIGKILL)
for child in children:
    os.waitpid(child, 0)
print(json.dumps({"children": len(children), "refused": refused}))
"""
MANY_CHILDREN = f"""
import json, subprocess, sys
code = "import mmap; block = [{TAKE} for _ in range(30)]; print('has it', flush=True); input()"
family = [subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
          for _ in range(4)]
have = sum(child.stdout.readline() == "has it\\n" for child in family)
for child in family:
    child.kill()
print(json.dumps({{"have": have, "ends": [child.wait() for child in family]}}))
"""
BUSY = """
import json, multiprocessing, os, time

def burn(until):
    while time.time() < until:
        sum(range(10000))
    times = os.times()
    return times.user + times.system

def worker(until, results):
    began = os.times()
    results.put(burn(until) - began.user - began.system)

context = multiprocessing.get_context("fork")
results = context.Queue()
family = [context.Process(target=worker, args=(UNTIL, results)) for _ in range(COUNT)]
for child in family: child.start()
total = sum(results.get() for _ in family)
for child in family: child.join()
print(json.dumps({"seconds": total}))
"""


def many_children_share_the_limit(platform: GuestPlatform) -> None:
    """Each has less than the limit, all together twice as much: the server's group is what counts."""
    _, result = platform.tried({"bob": ["start", "minimal"]}, {"bob": ["cell", MANY_CHILDREN]})
    if failed := result["bob"].get("failed"):
        assert "memory limit" in failed, (
            f"the kernel may be the one that is chosen, and that is told: {result}"
        )
    else:
        found = json.loads(result["bob"]["stdout"])
        assert found["have"] * 30 * 2**24 <= LIMIT, f"more than the server's limit at once: {found}"
    assert platform.is_healthy()


class LimitsHold:
    """Needs the fixture `platform`, started with `notebooks.max_processes=150`."""

    def test_a_memory_hog_dies_alone_and_is_told_why(self, platform: GuestPlatform) -> None:
        _, first, second = platform.tried(
            {"bob": ["start", "minimal"]}, {"bob": ["cell", HOG]}, {"bob": ["cell", "print(6 * 7)"]}
        )
        assert "memory limit of 1 GiB" in first["bob"].get("failed", ""), first
        assert second["bob"].get("stdout") == "42\n", f"the server itself goes on: {second}"
        assert (
            platform.guest.run("root", "journalctl -k -b --grep 'Out of memory:'", check=False).returncode
            != 0
        ), "the whole machine ran out of memory"

    def test_a_killed_child_of_a_kernel_is_told_in_its_cell(self, platform: GuestPlatform) -> None:
        _, result, again = platform.tried(
            {"bob": ["start", "minimal"]}, {"bob": ["cell", HOG_CHILD]}, {"bob": ["cell", "print(6 * 7)"]}
        )
        assert result["bob"]["stdout"] == "-9\n", result
        assert result["bob"]["stderr"].count("A process was killed because this server used more") == 1, (
            result
        )
        assert (again["bob"]["stdout"], again["bob"]["stderr"]) == ("42\n", ""), again

    def test_many_children_share_their_servers_limit(self, platform: GuestPlatform) -> None:
        many_children_share_the_limit(platform)

    def test_a_fork_bomb_stops_at_its_limit(self, platform: GuestPlatform) -> None:
        _, result, again = platform.tried(
            {"bob": ["start", "minimal"]}, {"bob": ["cell", FORK_BOMB]}, {"bob": ["cell", "print(6 * 7)"]}
        )
        found = json.loads(result["bob"]["stdout"])
        assert found["refused"] == "Resource temporarily unavailable" and 10 < found["children"] < 150, found
        assert again["bob"]["stdout"] == "42\n"

    def test_two_servers_get_equal_shares_however_many_processes_they_start(
        self, platform: GuestPlatform
    ) -> None:
        """One core, eight busy processes of one user, one of another: without groups that would be eight to one."""
        start = {"bob": ["start", "minimal"], "olga": ["start", "minimal"]}
        warm = {"bob": ["cell", "pass"], "olga": ["cell", "pass"]}
        busy = "import time\nuntil = time.time() + 6\n" + BUSY.replace("UNTIL", "until")
        *_, result = platform.users(
            start,
            warm,
            {"bob": ["cell", busy.replace("COUNT", "8")], "olga": ["cell", busy.replace("COUNT", "1")]},
        )
        many, one = (json.loads(result[name]["stdout"])["seconds"] for name in ("bob", "olga"))
        assert one > 0.5 * many, f"eight processes got {many:.1f} s, one got {one:.1f} s"
        assert platform.is_healthy()
