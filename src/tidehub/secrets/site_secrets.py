"""The secrets of a site: which it needs, reading one, and what is wrong with them.

require(site_file, "client_secret")     for who needs one now
problems(site_file, site)               for `validate`
resolve(site_file, os.environ)          for who renders them (`charts.chart_values`)
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tidehub import program
from tidehub.errors import Place, UsageError
from tidehub.secrets.declared import BY_NAME, Declared
from tidehub.secrets.secret import Secret
from tidehub.secrets.sources import Found, Resolved, resolve
from tidehub.secrets.store import beside
from tidehub.site.problems import Problem

if TYPE_CHECKING:
    from tidehub.site.model import Site

__all__ = ["SecretsError", "needed", "problems", "require", "resolve"]


Severity = Literal["error", "warning"]


class SecretsError(UsageError):
    """Secrets that cannot be used. `problems` holds everything that was found; values are in none of them."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        count = "1 error" if len(self.problems) == 1 else f"{len(self.problems)} errors"
        super().__init__(f"the secrets cannot be used ({count})")

    def __str__(self) -> str:
        return "\n".join([self.what, *map(str, self.problems)])


def needed(site: Site) -> tuple[Declared, ...]:
    """The secrets that the operator of this site keeps. On one machine all others are the platform's own."""
    names = [] if site.login.provider == "demo" else ["client_secret"]
    if site.kubernetes is not None:
        names += ["hub_cookie_secret", "hub_crypt_key", "proxy_auth_token"]
        if site.dask.engine == "gateway":
            names.append("gateway_token")
    return tuple(BY_NAME[name] for name in names)


def require(site_file: Path | None, name: str, environ: Mapping[str, str] = os.environ) -> Secret:
    """One secret that is needed now. Raises `SecretsError` for files that cannot be used, `UsageError` without it."""
    declared = BY_NAME[name]
    resolved = resolve(site_file, environ, enough=[name])
    placeholders = [placeholder_problem(one) for one in resolved.found.values() if one.is_placeholder]
    if resolved.problems:
        raise SecretsError([*resolved.problems, *placeholders])
    found = resolved.found.get(name)
    if found is None:
        place = f"`{name}: ...` in {beside(site_file)} (mode 0600), or " if site_file else ""
        raise UsageError(
            f"{_words(name)} is missing: it {declared.purpose}",
            expected=f"{place}the variable {declared.variable}",
            fix=f"see what is missing with `{program.command('secrets', 'check')}`"
            + (", or try the site out with --demo-login" if name == "client_secret" else ""),
        )
    if found.is_placeholder:
        raise SecretsError(placeholders)
    return found.value


def problems(
    site_file: Path, site: Site | None = None, environ: Mapping[str, str] = os.environ
) -> list[Problem]:
    """What is wrong with the secrets of a site, in the order of the sources. Raises nothing.

    Errors are files that cannot be used. Placeholders, and with `site` what is missing, are warnings here: a site is
    also checked where its secrets are not, and tried out without them.
    """
    wanted = needed(site) if site else ()
    return problems_of(resolve(site_file, environ), wanted, incomplete="warning")


def problems_of(
    resolved: Resolved, wanted: Iterable[Declared], *, incomplete: Severity = "error"
) -> list[Problem]:
    """The problems of what was found; see `problems`. `incomplete` grades placeholders and what is missing."""
    found = [*resolved.problems]
    found += [placeholder_problem(one, incomplete) for one in resolved.found.values() if one.is_placeholder]
    found += [
        _shadowed(one, resolved.found[one.declared.name])
        for one in resolved.shadowed
        if _differ(one, resolved)
    ]
    wrong = {problem.path[0] for problem in resolved.problems if problem.path}
    for declared in () if resolved.unread else wanted:
        if declared.name not in resolved.found and declared.name not in wrong:
            found.append(_missing(declared, resolved.file, incomplete))
    return found


def placeholder_problem(found: Found, severity: Severity = "error") -> Problem:
    """The problem that a value is still to come; the value itself stays unsaid."""
    declared = found.declared
    if declared.name == "client_secret":
        fix = "write the value of the identity provider's registration"
    elif declared.given:
        fix = "write the real value"
    else:
        create = program.command("secrets", "create")
        fix = f"remove the line and run `{create}`, or write the value: it {declared.purpose}"
    return Problem(
        "this value is a placeholder" if found.where else f"the value in {found.place} is a placeholder",
        (declared.name,),
        found.where,
        expected=declared.shape.words,
        fix=fix,
        severity=severity,
    )


def _missing(declared: Declared, file: Path | None, severity: Severity) -> Problem:
    fix = (
        f"write it into {file.name if file else 'the secrets file'}, or set {declared.variable}"
        if declared.given
        else f"make it with `{program.command('secrets', 'create')}`"
    )
    where = Place(str(file)) if file and file.exists() else None
    return Problem(f"missing: it {declared.purpose}", (declared.name,), where, fix=fix, severity=severity)


def _shadowed(found: Found, used: Found) -> Problem:
    return Problem(
        f"the value in {found.place} is not used: {used.place} gives another one",
        (found.declared.name,),
        found.where,
        fix="keep one of them",
        severity="warning",
    )


def _differ(found: Found, resolved: Resolved) -> bool:
    return resolved.found[found.declared.name].values != found.values


def _words(name: str) -> str:
    return "the client secret of the identity provider" if name == "client_secret" else f"the secret {name}"
