"""Orphans are handed to the supervisor and collected; its own children and those of its session are left alone."""

from __future__ import annotations

import os
import subprocess
import sys


def run(script: str) -> None:
    """In a process of its own: whoever adopts orphans keeps them."""
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=60)


BEGIN = """
import os, subprocess, sys
from tidehub.system.processes import children_of
from tidehub.local.supervisor.process import become_subreaper, reap
ended = os.WEXITED | os.WNOWAIT
# It ends without a look at its child: subprocess would collect one that has ended before it.
middle = '''import os, subprocess, sys
print(subprocess.Popen([sys.executable, "-c", ""], stdout=2, start_new_session=%s).pid, flush=True)
os._exit(0)'''
def orphan(own_session):
    found = subprocess.run([sys.executable, "-c", middle % own_session], stdout=subprocess.PIPE, check=True)
    return int(found.stdout)
"""


def test_orphans_are_adopted_and_collected_but_not_other_children() -> None:
    run(
        BEGIN
        + """
assert become_subreaper()
mine = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"], start_new_session=True)
os.waitid(os.P_PID, mine.pid, ended)
lost = orphan(True)
os.waitid(os.P_PID, lost, ended)
assert reap({mine.pid: mine}) == [lost]
assert mine.returncode == 3 and children_of(os.getpid()) == []
assert reap({}) == []
"""
    )


def test_children_of_the_same_session_keep_their_exit_status() -> None:
    run(
        BEGIN
        + """
assert become_subreaper()
librarys = subprocess.Popen([sys.executable, "-c", "raise SystemExit(4)"])
os.waitid(os.P_PID, librarys.pid, ended)
lost = orphan(True)
os.waitid(os.P_PID, lost, ended)
assert reap({}) == [lost]
assert librarys.wait() == 4
"""
    )


def test_afterwards_orphans_go_elsewhere() -> None:
    run(
        BEGIN
        + """
assert become_subreaper() and become_subreaper(False)
lost = orphan(True)
try:
    os.waitid(os.P_PID, lost, ended | os.WNOHANG)
except ChildProcessError:
    raise SystemExit(0)
raise SystemExit("it was adopted all the same")
"""
    )
