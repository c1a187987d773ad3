"""Unprivileged without sandboxes: programs cannot be kept apart, so one user at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from tidehub.errors import TidehubError
from tidehub.local.launching import Order

from .base import Ground, Isolation
from .bubblewrap import INSTALL
from .cgroup_files import Group
from .launches import Launched
from .model import LaunchSpec
from .process import handle_alive
from .spawning import Gate, open_gate
from .sweep import members


class SingleIsolation(Isolation):
    """No walls: whose processes run has the machine, across restarts of the platform."""

    kind = "single"

    def __init__(self, ground: Ground, fix: str = INSTALL) -> None:
        super().__init__(ground)
        self._fix = fix

    def _admit(self, spec: LaunchSpec) -> None:
        self._refuse(spec, self._launches.all())

    def _refusal(self, spec: LaunchSpec) -> Callable[[Sequence[Launched]], None]:
        return partial(self._refuse, spec)

    def _refuse(self, spec: LaunchSpec, launched: Sequence[Launched]) -> None:
        for line in launched:
            if line.user != spec.user.name and self._lives(line):
                raise TidehubError(
                    f"{line.user!r} is at work, and without sandboxes this machine serves one user at a time",
                    expected=f"{line.user!r} stops their server and clusters first",
                    fix=f"for several users at once: {self._fix}",
                )

    def _lives(self, line: Launched) -> bool:
        handle = line.handle
        if handle.cgroup:
            return handle_alive(handle) or bool(self._groups.group(handle.cgroup).processes())
        return bool(members(handle))

    @contextlib.contextmanager
    def _waiting(
        self, spec: LaunchSpec, group: Group | None, mark: str, log: int
    ) -> Iterator[tuple[Gate, int, int]]:
        order = Order(
            argv=spec.argv,
            env=self._environment(spec, mark),
            cwd=str(spec.cwd),
            groups=group.state if group else (),
            rlimits=self._rlimits(spec),
            gate=True,
        )
        with open_gate(order, log=log) as gate:
            gate.ready()
            yield gate, gate.process.pid, 0

    def gaps(self) -> list[str]:
        """See `Isolation.gaps`."""
        only_one = "Only one user at a time can work here: nothing would keep several users' programs apart."
        lines = [f"{only_one} For several: {self._fix}."]
        lines += self._common_gaps()
        if not self.capabilities.processes:
            lines.append("The number of processes is not limited.")
        if self.ground.cgroups is None:
            lines.append("A process that detaches itself and empties its environment may outlive its server.")
        return lines
