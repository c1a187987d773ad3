"""The service of the docs in a guest: installed as docs/how-to/service.md says, asked with systemctl."""

from __future__ import annotations

import re
from dataclasses import dataclass

from guest_image import CHECKOUT as HERE
from guest_machine import TIDEHUB, Done, Guest

PAGE = HERE / "docs" / "how-to" / "service.md"
COMMAND = "tidehub service install"


@dataclass(frozen=True)
class Service:
    """The unit `tidehub` of the system, or of the manager of the user `account`."""

    guest: Guest
    account: str = "root"

    @property
    def _of_user(self) -> str:
        return "" if self.account == "root" else "--user "

    def install(self) -> None:
        """Install it by the command that the page names, or write the unit that it shows; it is not started."""
        page = PAGE.read_text(encoding="utf-8")
        if COMMAND in page:
            self.guest.run(self.account, f"{TIDEHUB} service install {self._of_user}")
            return
        assert self.account == "root", f"{PAGE.name} does not say how an ordinary user gets a service"
        unit = re.search(r"```ini\n(.*?)```", page, re.DOTALL)
        assert unit is not None, f"{PAGE.name} shows no unit"
        text = re.sub(r"(?m)^ExecStart=.*$", f"ExecStart={TIDEHUB} up", unit[1])
        self.guest.run(
            "root", "cat > /etc/systemd/system/tidehub.service && systemctl daemon-reload", given=text
        )

    def ctl(self, command: str, *, timeout: float = 240, check: bool = True) -> Done:
        """`systemctl COMMAND tidehub`; a login gives an ordinary user's manager its address."""
        return self.guest.run(
            self.account, f"systemctl {self._of_user}{command} tidehub", timeout=timeout, check=check
        )

    def show(self, name: str) -> str:
        """One property of the unit."""
        return self.ctl(f"show --value --property {name}").stdout.strip()

    def wait_for(self, *states: str, within: float) -> float:
        """Wait until the unit is in one of the states; returns the seconds."""
        return self.guest.wait(
            lambda: self.ctl("is-active", check=False).stdout.strip() in states,
            within=within,
            saying=f"the unit is {' or '.join(states)}",
        )
