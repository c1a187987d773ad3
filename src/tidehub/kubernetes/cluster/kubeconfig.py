"""Which cluster and which user a kubeconfig means. Reads files, connects to nothing.

Search and merging as kubectl does: https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tidehub.errors import Place
from tidehub.kubernetes.cluster.port import ClusterProblem
from tidehub.kubernetes.cluster.problems import Server

_PATHS = {
    "cluster": ("certificate-authority",),
    "user": ("client-certificate", "client-key", "tokenFile"),
}
"""Keys that name files, relative to the kubeconfig they stand in."""
_LIMIT = 8 * 1024 * 1024
"""A kubeconfig larger than this is not one."""


@dataclass(frozen=True)
class Chosen:
    """One context of the kubeconfig, its files' paths absolute."""

    context: str
    cluster: Mapping[str, Any]
    user: Mapping[str, Any]
    source: str
    """The file that the context stands in."""
    folder: Path
    """Where an exec plugin with a relative path is looked for."""
    namespace: str | None = None

    def server(self) -> Server:
        """Whom messages are about."""
        return Server(self.context, str(self.cluster["server"]), self.login(), self.source, self.warnings())

    def login(self) -> str:
        """How the credentials log in; see `Server.login`."""
        for keys, name in (
            (("exec",), "exec"),
            (("token", "tokenFile"), "token"),
            (("client-certificate", "client-certificate-data"), "certificate"),
            (("auth-provider",), "provider"),
            (("username",), "password"),
        ):
            if any(self.user.get(key) for key in keys):
                return name
        return "none"

    def warnings(self) -> tuple[str, ...]:
        """What is allowed but unwise."""
        if self.cluster.get("insecure-skip-tls-verify"):
            return (
                f"{self.source}: insecure-skip-tls-verify: the certificate of {self.cluster['server']} is not verified",
            )
        return ()


def search(kubeconfig: str | None) -> list[Path]:
    """The files that are read: the given one, else those of KUBECONFIG, else `~/.kube/config`; only those there.

    Raises `ClusterProblem` where a file was named and is not there.
    """
    if kubeconfig:
        path = Path(kubeconfig).expanduser()
        if not path.is_file():
            raise _wrong(
                f"the kubeconfig {kubeconfig} does not exist", fix="give the path of one with --kubeconfig"
            )
        return [path]
    named = [Path(part).expanduser() for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    if named:
        found = [path for path in named if path.is_file()]
        if not found:
            raise _wrong(
                f"KUBECONFIG names no file that exists: {', '.join(map(str, named))}",
                fix="correct KUBECONFIG, or give the path with --kubeconfig",
            )
        return found
    home = Path("~/.kube/config").expanduser()
    return [home] if home.is_file() else []


def choose(paths: list[Path], context: str | None) -> Chosen:
    """The context of that name, or the current one. Raises `ClusterProblem` for all that is missing or broken."""
    sections = _merged(paths)
    name = context or sections.current
    if not name:
        raise _wrong(
            "the kubeconfig has no current context",
            where=Place(str(paths[0])),
            expected=_names("one of its contexts", sections.contexts),
            fix="name one with --context",
        )
    if name not in sections.contexts:
        raise _wrong(
            f"the kubeconfig has no context {name!r}",
            where=Place(str(paths[0])),
            expected=_names("one of", sections.contexts),
            fix="name one of these with --context",
        )
    path, body = sections.contexts[name]
    cluster = _section(sections.clusters, body.get("cluster"), "cluster", name, path)
    user = _section(sections.users, body.get("user"), "user", name, path) if body.get("user") else {}
    if not str(cluster.get("server") or "").startswith(("https://", "http://")):
        raise _wrong(
            f"the cluster of context {name!r} has no server address",
            where=Place(str(path)),
            expected="server: https://...",
        )
    user_file = sections.users.get(str(body.get("user")), (path, {}))[0]
    chosen = Chosen(name, cluster, user, str(path), user_file.resolve().parent, body.get("namespace"))
    _check_files(chosen)
    _check_certificate(chosen)
    return chosen


@dataclass
class _Sections:
    clusters: dict[str, tuple[Path, dict[str, Any]]]
    users: dict[str, tuple[Path, dict[str, Any]]]
    contexts: dict[str, tuple[Path, dict[str, Any]]]
    current: str | None = None


def _merged(paths: list[Path]) -> _Sections:
    merged = _Sections({}, {}, {})
    for path in paths:
        document = _read(path)
        # The first file to say something wins, as with kubectl.
        merged.current = merged.current or document.get("current-context") or None
        for plural, single, into in (
            ("clusters", "cluster", merged.clusters),
            ("users", "user", merged.users),
            ("contexts", "context", merged.contexts),
        ):
            for entry in document.get(plural) or []:
                if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
                    raise _wrong(f"an entry of {plural} has no name", where=Place(str(path)))
                body = entry.get(single) or {}
                if not isinstance(body, dict):
                    raise _wrong(f"{single} {entry['name']!r} is not a mapping", where=Place(str(path)))
                into.setdefault(entry["name"], (path, _absolute(body, single, path)))
    return merged


def _read(path: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        if path.stat().st_size > _LIMIT:
            raise _wrong("the file is too large for a kubeconfig", where=Place(str(path)))
        document = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except PermissionError as error:
        raise _wrong("the kubeconfig may not be read by you", where=Place(str(path))) from error
    except (OSError, UnicodeDecodeError) as error:
        raise _wrong(
            f"the kubeconfig cannot be read: {type(error).__name__}", where=Place(str(path))
        ) from error
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 0
        # The parser's own words may quote the line, which may hold a token.
        raise _wrong("the kubeconfig is not YAML", where=Place(str(path), line)) from error
    if not isinstance(document, dict):
        raise _wrong(
            "the kubeconfig is empty", where=Place(str(path)), expected="clusters, users and contexts"
        )
    return document


def _absolute(body: dict[str, Any], kind: str, path: Path) -> dict[str, Any]:
    folder = path.resolve().parent
    return {
        key: str(folder / Path(str(value)).expanduser()) if key in _PATHS.get(kind, ()) and value else value
        for key, value in body.items()
    }


def _section(
    entries: Mapping[str, tuple[Path, dict[str, Any]]], name: Any, kind: str, context: str, path: Path
) -> dict[str, Any]:
    if name not in entries:
        raise _wrong(
            f"context {context!r} names {kind} {name!r}, which the kubeconfig does not have",
            where=Place(str(path)),
            expected=_names(f"a {kind} of", entries),
        )
    return entries[name][1]


def _check_files(chosen: Chosen) -> None:
    for kind, section in (("cluster", chosen.cluster), ("user", chosen.user)):
        for key in _PATHS[kind]:
            value = section.get(key)
            if value and not section.get(f"{key}-data") and not Path(str(value)).is_file():
                raise _wrong(
                    f"{key} of context {chosen.context!r} names a file that does not exist: {value}",
                    where=Place(chosen.source),
                )
            inline = section.get(f"{key}-data")
            if inline and b"-----BEGIN" not in _decoded(inline, f"{key}-data", chosen):
                kind_of_file = "PEM key" if key.endswith("key") else "PEM certificate"
                raise _wrong(f"{key}-data is not a {kind_of_file}", where=Place(chosen.source))
    if chosen.user.get("auth-provider") and (chosen.user["auth-provider"] or {}).get("name") != "oidc":
        raise _wrong(
            f"context {chosen.context!r} logs in by auth-provider, which Kubernetes clients gave up in 1.26",
            where=Place(chosen.source),
            expected="an exec plugin, a token or a client certificate",
            fix="have the kubeconfig written anew by the provider's current command line",
        )


def _check_certificate(chosen: Chosen) -> None:
    """A client certificate that has expired is refused in ways that do not say so: it is told here."""
    text = _certificate(chosen)
    if text is None:
        return
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(text)
    except ValueError as error:
        raise _wrong("the client certificate is not a PEM certificate", where=Place(chosen.source)) from error
    ends = certificate.not_valid_after_utc
    if ends < datetime.now(UTC):
        raise ClusterProblem(
            f"the client certificate of context {chosen.context!r} expired on {ends:%Y-%m-%d at %H:%M} UTC",
            reason="unauthorized",
            where=Place(chosen.source),
            fix="get a new kubeconfig or certificate from the cluster's administrators",
        )


def _certificate(chosen: Chosen) -> bytes | None:
    data = chosen.user.get("client-certificate-data")
    if data:
        return _decoded(data, "client-certificate-data", chosen)
    path = chosen.user.get("client-certificate")
    return Path(str(path)).read_bytes() if path else None


def _decoded(value: Any, key: str, chosen: Chosen) -> bytes:
    try:
        return base64.b64decode(str(value), validate=False)
    except (binascii.Error, ValueError) as error:
        raise _wrong(f"{key} is not base64", where=Place(chosen.source)) from error


def _names(start: str, entries: Mapping[str, Any]) -> str:
    return f"{start}: {', '.join(sorted(entries))}" if entries else f"{start}: (there are none)"


def _wrong(
    what: str, *, where: Place | None = None, expected: str | None = None, fix: str | None = None
) -> ClusterProblem:
    return ClusterProblem(what, reason="other", where=where, expected=expected, fix=fix)
