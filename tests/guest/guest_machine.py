"""One Debian machine under User-Mode Linux: booted from a disk of `prepare`, reached by ssh, cut off or stopped.

systemd is its PID 1 and control groups are version 2 only, whatever the machine of the tests has; programs run at
that machine's speed, on one core. It lives in a network namespace of its own, takes no port of the host, and writes
into a copy-on-write file that ends with it. Nothing of it outlives the tests, however these end.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import guest_image
import pytest

from tidehub.system.processes import children_of

ADDRESS = "192.168.77.2"
CHECKOUT = "/opt/src"
"""Where the checkout lies in the guest; only root can write there."""
TIDEHUB = f"{CHECKOUT}/tidehub"
BOOT_SECONDS = 300
_POLL = 1.0
_WIRE = """
set -e
ip link set lo up
ip tuntap add dev tap0 mode tap
ip addr add 192.168.77.1/24 dev tap0
ip link set tap0 up
"$@" || exit
"""
"""Runs as the first process of the machine's namespaces: all that is in them ends with it, and is waited for."""
_REMOVE_AFTER = 'cat >/dev/null; rm -rf -- "$@"'
"""The end of its input is that of the tests, which may be killed: a copy-on-write file has gigabytes."""

Done = subprocess.CompletedProcess[str]


class Guest:
    """A machine that runs until the `with` block ends.

    `extra_disks` are sizes in MiB of empty disks, /dev/ubdb and so on.
    """

    def __init__(self, suite: str, *, extra_disks: tuple[int, ...] = ()) -> None:
        base = guest_image.disk(suite)
        assert base is not None, f"{guest_image.PREPARE} has not made the disk of {suite}"
        self.suite = suite
        self._base = base
        self._extra = extra_disks
        self._kernel: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        guest_image.note_use(self.suite)
        with contextlib.ExitStack() as undo:
            self._directory = Path(tempfile.mkdtemp(prefix="tidehub-guest-"))
            # UML keeps the guest's memory in an unlinked file: on a tmpfs, or every page would be written to a disk.
            self._memory_at = tempfile.mkdtemp(prefix="tidehub-guest-", dir="/dev/shm")
            remover = subprocess.Popen(
                ["sh", "-c", _REMOVE_AFTER, "sh", self._directory, self._memory_at],
                stdin=subprocess.PIPE,
                start_new_session=True,
            )
            undo.callback(remover.communicate)
            # What root builds beside the other software is readable by all; ssh uses only a key that is not.
            self._key = self._directory / "key"
            self._key.write_bytes(guest_image.key(self.suite).read_bytes())
            self._key.chmod(0o600)
            for number, size in enumerate(self._extra, 1):
                with (self._directory / f"disk{number}").open("wb") as made:
                    made.truncate(size << 20)
            undo.callback(self.power_cut)
            self.boot()
            self.bring_checkout()
            self.check_software()
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    @property
    def console(self) -> str:
        """What kernel and systemd said on the console."""
        return (self._directory / "console").read_text(errors="replace")

    def boot(self) -> float:
        """Start the kernel and wait until systemd has started everything. Returns the seconds."""
        began = time.monotonic()
        disks = [f"ubd0={self._directory / 'changes'},{self._base}"]
        disks += [
            f"ubd{number}={self._directory / f'disk{number}'}" for number in range(1, len(self._extra) + 1)
        ]
        with (self._directory / "console").open("ab") as console:
            self._kernel = subprocess.Popen(
                [
                    # Should the tests be killed, the machine ends with them.
                    *("setpriv", "--pdeathsig", "KILL"),
                    *("taskset", "--cpu-list", str(_processor())),
                    *("unshare", "--net", "--pid", "--mount-proc", "--fork", "--kill-child"),
                    *("sh", "-c", _WIRE, "sh"),
                    *("linux.uml", f"mem={guest_image.MEMORY >> 20}M", *disks),
                    *("root=/dev/ubda", "rw", "eth0=tuntap,tap0", f"uml_dir={self._memory_at}"),
                    *("con=null", "con0=null,fd:1", "console=tty0", "loglevel=4"),
                ],
                env={
                    "PATH": os.environ["PATH"],
                    "TMPDIR": self._memory_at,
                    "LD_PRELOAD": str(guest_image.where(self.suite) / "xstate.so"),
                },
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.wait(
            lambda: self.run("root", "systemctl is-system-running --wait", check=False).returncode in (0, 1),
            within=BOOT_SECONDS,
            saying="ssh and systemd are ready",
        )
        return time.monotonic() - began

    def bring_checkout(self) -> None:
        """Put the checkout of these tests at `CHECKOUT`, in place of an earlier one."""
        script = f"rm -rf {CHECKOUT} && mkdir -m 755 {CHECKOUT} && tar -x -C {CHECKOUT} && chmod -R go-w {CHECKOUT}"
        subprocess.run(
            self._ssh("root", script), input=guest_image.checkout_archive(), check=True, timeout=120
        )

    def check_software(self) -> None:
        """Fail, and have `prepare` make the disk anew, unless the checkout finds all its software on it.

        Without a network it could not make any, and what it did make would be measured as its first start.
        """
        program = f"{CHECKOUT}/tests/guest/inside/software_fits.py"
        words = [f"{CHECKOUT}/src", "/opt/tidehub", *guest_image.software()]
        done = self.run("root", shlex.join(["python3", "-I", "-S", program, *words]))
        if faults := json.loads(done.stdout):
            guest_image.reject(self.suite)
            pytest.fail(
                f"the disk of {self.suite} does not fit this checkout: {'; '.join(faults)}\n"
                f"To make it anew run as root: {guest_image.PREPARE}",
                pytrace=False,
            )

    def run(
        self, user: str, command: str, *, timeout: float = 60, check: bool = True, given: str = ""
    ) -> Done:
        """Run a shell command in a login of its own, which ends with it.

        With `check` a failure ends the test with all that was said. `timeout` is in seconds.
        """
        done = subprocess.run(
            self._ssh(user, command), input=given, capture_output=True, text=True, timeout=timeout
        )
        assert not check or done.returncode == 0, f"{user}: {command}\n{said(done)}"
        return done

    def python(self, user: str, program: str, *words: str, timeout: float = 120) -> Any:
        """The JSON that a program of `tests/guest/inside` prints, run by the platform's own Python."""
        inside = f"{CHECKOUT}/tests/guest/inside/{program}"
        # The newest version that this user's own start has installed: it is that of the checkout.
        root = "/opt/tidehub" if user == "root" else "~/.local/share/tidehub"
        installed = f"$(ls --directory --sort=time {root}/tidehub/*/bin/python | head -n 1)"
        command = f"PYTHONPATH={CHECKOUT}/tests/real {installed} {inside} {shlex.join(words)}"
        done = self.run(user, command, timeout=timeout)
        return json.loads(done.stdout.splitlines()[-1])

    def wait(self, what: Callable[[], bool], *, within: float, saying: str) -> float:
        """Seconds until `what` is true; fails after `within` seconds, or at once when the machine is gone."""
        began = time.monotonic()
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                if what():
                    return time.monotonic() - began
            assert self.is_running, f"the machine ended while waiting: {saying}\n{self.console[-3000:]}"
            assert time.monotonic() - began < within, (
                f"not within {within:g} s: {saying}\n{self.console[-2000:]}"
            )
            time.sleep(_POLL)

    def wait_inside(self, condition: str, *, user: str = "root", within: float, saying: str) -> float:
        """Seconds until a shell condition is true in the guest, asked in one login: a login costs half a second."""
        began = time.monotonic()
        loop = f"until {condition}; do sleep 0.5; done"
        done = self.run(
            user, f"timeout {within:g} sh -c {shlex.quote(loop)}", timeout=within + 60, check=False
        )
        assert done.returncode == 0, (
            f"not within {within:g} s: {saying}\n{said(done)}\n{self.console[-2000:]}"
        )
        return time.monotonic() - began

    @property
    def is_running(self) -> bool:
        return self._kernel is not None and self._kernel.poll() is None

    def power_cut(self) -> None:
        """End the machine at once: what its kernel had not written to a disk is lost."""
        if self._kernel is not None:
            # The first process of its namespaces, which `unshare` waits for; until that is there, `unshare` itself.
            for one in [*(child.pid for child in children_of(self._kernel.pid)), self._kernel.pid][:1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)
            self._kernel.wait()
            self._kernel = None

    def stop(self) -> float:
        """Shut the machine down in order. Returns the seconds that took."""
        assert self._kernel is not None
        began = time.monotonic()
        self.run("root", "systemctl poweroff", check=False)
        try:
            self._kernel.wait(timeout=BOOT_SECONDS)
        finally:
            self.power_cut()
        return time.monotonic() - began

    def reboot(self) -> None:
        """An orderly stop and a new boot."""
        self.stop()
        self.boot()

    def _ssh(self, user: str, command: str) -> list[str]:
        options = {
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "LogLevel": "ERROR",
            "BatchMode": "yes",
            "ConnectTimeout": "10",
            "ServerAliveInterval": "15",
        }
        given = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        assert self._kernel is not None, "the machine is off"
        inside = ["nsenter", f"--net=/proc/{self._kernel.pid}/ns/net"]
        return [*inside, "ssh", "-F", "none", "-i", str(self._key), *given, f"{user}@{ADDRESS}", command]


def _processor() -> int:
    """The processor for all of a machine, another one for each of the processes that run tests.

    The kernel and what runs on it take turns, at every system call: on two processors each turn would wake one up.
    """
    ours = sorted(os.sched_getaffinity(0))
    return ours[int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % len(ours)]


def said(done: Done) -> str:
    """All that a command said, and how it ended."""
    return f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
