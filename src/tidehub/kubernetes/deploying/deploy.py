"""Brings a site about: `deploy`."""

from __future__ import annotations

from collections.abc import Callable

from tidehub.kubernetes.deploying.running import Result, Step, Watcher, Work
from tidehub.kubernetes.rendering.model import Rendered

BackUp = Callable[[Work], str]
"""Copies the hub's database (and what else a backup holds) away; where to, in words. Raises `TidehubError`."""


def deploy(
    rendered: Rendered,
    work: Work,
    *,
    back_up: BackUp | None = None,
    watch: Watcher = lambda step, moment: None,
) -> Result:
    """Makes the namespace what was rendered. Raises `Failure`, `Interrupted`, `Refused`, `Locked`."""
    raise NotImplementedError


def deploy_steps(rendered: Rendered, *, back_up: BackUp | None = None) -> tuple[Step, ...]:
    """What a deployment consists of, in order."""
    raise NotImplementedError
