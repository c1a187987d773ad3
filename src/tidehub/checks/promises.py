"""What a site promises users, as a check holds a platform to it: the same on every target."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from tidehub.checks.report import PhaseFailed
from tidehub.checks.target import Target
from tidehub.gateway.limits import workers_of
from tidehub.local.process import redact
from tidehub.login.entitled import entitled
from tidehub.login.log_scrub import scrub as scrub_parameters
from tidehub.site.model import Site
from tidehub.site.model.dask import Dask

TOKEN_VARIABLE = "TIDEHUB_CHECK_TOKEN"
"""Environment variable with a user's hub API token."""
_WORKERS = 2


def promise(target: Target, site: Site) -> Target:
    """The target with the profiles and clusters that the site promises: everybody, and each user by their groups."""
    everybody = replace(
        target,
        profiles=tuple(profile.slug for profile in site.notebooks.profiles),
        default_profile=site.notebooks.default_profile.slug,
        workers=_possible_workers(site.dask),
    )
    return replace(everybody, for_user=lambda record: _promised(everybody, site, record))


def scrubber(secrets: Iterable[str]) -> Callable[[str], str]:
    """Removes these secrets and everything that looks like one."""
    known = tuple(secrets)
    return lambda text: redact(scrub_parameters(text), known)


def _promised(everybody: Target, site: Site, record: Mapping[str, Any]) -> Target:
    user = entitled(site, str(record["name"]), record.get("groups", ()))
    if user.default is None:
        raise PhaseFailed(
            f"{record['name']} may enter, but start no profile: use another account with --user"
        )
    return replace(
        everybody,
        profiles=tuple(server.profile.slug for server in user.servers),
        default_profile=user.default.profile.slug,
        workers=_possible_workers(user.dask) if user.dask is not None else 0,
    )


def _possible_workers(dask: Dask) -> int:
    if dask.engine != "gateway":
        return 0
    return min(_WORKERS, workers_of(dask, dask.worker.cores.default, dask.worker.memory.default).workers)
