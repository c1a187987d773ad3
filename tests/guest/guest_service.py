"""The service of docs/how-to/service.md in a guest: installed by the command, asked with systemctl."""

from __future__ import annotations

from dataclasses import dataclass

from guest_machine import TIDEHUB, Done, Guest
from guest_platform import UP_SECONDS

LISTENING = "ss --tcp --listening --numeric 'sport = :8000'"


@dataclass(frozen=True)
class Service:
    """The unit `tidehub` of the system, or of the manager of the user `account`."""

    guest: Guest
    account: str = "root"

    @property
    def _of_user(self) -> str:
        return "" if self.account == "root" else "--user "

    def install(self, *words: str) -> Done:
        """Write the unit; without a terminal it is not started."""
        return self.tidehub("install", *words)

    def tidehub(self, command: str, *words: str, check: bool = True) -> Done:
        """`tidehub service COMMAND`, of the manager that this is."""
        line = f"{TIDEHUB} service {command} {self._of_user}{' '.join(words)}"
        return self.guest.run(self.account, line, timeout=UP_SECONDS, check=check)

    def ctl(self, command: str, *, timeout: float = UP_SECONDS, check: bool = True) -> Done:
        """`systemctl COMMAND tidehub`; a login gives an ordinary user's manager its address."""
        return self.guest.run(
            self.account, f"systemctl {self._of_user}{command} tidehub", timeout=timeout, check=check
        )

    def show(self, name: str) -> str:
        """One property of the unit."""
        return self.ctl(f"show --value --property {name}").stdout.strip()

    def wait_for(self, *states: str, within: float) -> float:
        """Wait until the unit is in one of the states; returns the seconds."""
        return self.guest.wait_inside(
            f"systemctl {self._of_user}is-active tidehub | grep -Eqx '{'|'.join(states)}'",
            user=self.account,
            within=within,
            saying=f"the unit is {' or '.join(states)}",
        )

    def crash(self, look: str) -> str:
        """`kill -9` of the main process, and what the shell command `look` says while nothing of the unit runs.

        One login for all: systemd starts it again soon.
        """
        pid, group = self.show("MainPID"), f"/sys/fs/cgroup{self.show('ControlGroup')}"
        gone = f'[ -z "$(find {group} -name cgroup.procs -exec cat {{}} + 2>/dev/null)" ]'
        shown = f"systemctl {self._of_user}show --value --property MainPID tidehub"
        command = f"kill -9 {pid}; until {gone}; do sleep 0.05; done; {look}; {shown}"
        seen = self.guest.run(self.account, command, check=False).stdout
        assert seen.endswith("\n0\n"), f"something of the unit runs again already: {seen}"
        return seen

    def wait_for_another(self, pid: str, *, within: float) -> None:
        """Wait until systemd has started the main process again after `pid`, and it is ready."""
        new = f"systemctl {self._of_user}show --value --property MainPID tidehub | grep -Evqx '0|{pid}'"
        self.guest.wait_inside(new, user=self.account, within=within, saying="systemd starts it again")
        self.wait_for("active", within=UP_SECONDS)
