"""Helm's sentences, of versions 3 and 4, as the typed errors of `problems`. Pure; secrets never get through."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable

from tidehub import program
from tidehub.helm import problems

REDACTED = "[redacted]"
_SHORTEST = 4
"""Characters. Replacing shorter texts would spoil every word; such a thing is not a secret."""
_LONGEST = 1500
"""Characters of an unknown sentence that are shown."""

_VALUES = "values don't meet the specifications of the schema(s)"
_VALUE = re.compile(r"^\s*- (?:at '(?P<pointer>[^']*)'|(?P<dotted>[^\s:]+)): (?P<says>.+)$")
_CHART = re.compile(r"^(?P<chart>[A-Za-z0-9._-]+):$")
_EXECUTION = re.compile(
    r"execution error at \((?P<file>[^:()]+):(?P<line>\d+)(?::\d+)?\): (?P<says>.+)", re.S
)
_TEMPLATE = re.compile(r"template: (?P<file>[^:\s]+):(?P<line>\d+)(?::\d+)?: (?P<says>.+)", re.S)
_EXECUTING = re.compile(r"^(?P<file>\S+):(?P<line>\d+):\d+\n\s*executing (?P<says>.+)", re.S)
_PARSE = re.compile(r"parse error at \((?P<file>[^:()]+):(?P<line>\d+)\): (?P<says>.+)", re.S)
_YAML = re.compile(r"YAML parse error on (?P<file>\S+): (?P<says>.*?(?:line (?P<line>\d+).*)?)$", re.S)
_KUBE = re.compile(
    r"chart requires kubeVersion: (?P<wanted>.+?) which is incompatible with Kubernetes (?P<found>\S+)"
)
_OWNED = re.compile(
    r'(?P<kind>\w+) "(?P<name>[^"]+)" in namespace "(?P<namespace>[^"]*)" exists and cannot be imported(?P<rest>.*)',
    re.S,
)
_OWNER = re.compile(
    r'meta\.helm\.sh/release-(?P<part>name|namespace)" must equal "[^"]*": current value is "(?P<value>[^"]*)"'
)
_QUOTA = re.compile(r"exceeded quota: (?P<quota>[^,\s]+)|failed quota: (?P<failed>[^:,\s]+)")
_FORBIDDEN = re.compile(r'cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)"')
_NO_MATCH = re.compile(r'no matches for kind "(?P<kind>[^"]+)" in version "(?P<version>[^"]+)"')

_UNREACHABLE = (
    "cluster unreachable", "connection refused", "no such host", "no route to host", "network is unreachable",
    "i/o timeout", "TLS handshake timeout", "connection reset by peer", "no configuration has been provided",
    "server is currently unable to handle the request", "tls: failed to verify certificate", "x509:",
    "unexpected EOF", "http2: client connection lost", "Client.Timeout exceeded",
)  # fmt: skip
_UNAUTHORIZED = (
    "the server has asked for the client to provide credentials",
    "You must be logged in",
    "Unauthorized",
)
_KUBECONFIG = re.compile(
    r'context "[^"]*" does not exist|context was not found|error loading config file|exec: executable \S+ not found|'
    r"getting credentials: (?!the server)|invalid configuration"
)
_MISSING_RELEASE = re.compile(
    r"release: not found|release not loaded|has no revision|release has no \d+ version"
)
_NAMESPACE = re.compile(r'namespaces "(?P<name>[^"]+)" not found')
_IN_PROGRESS = "another operation (install/upgrade/rollback) is in progress"
_TIMED_OUT = (
    "timed out waiting",
    "context deadline exceeded",
    "would exceed context deadline",
    "client rate limiter Wait",
)
_CANCELLED = ("context canceled", "has been cancelled", "release cancelled")
_NO_PATH = re.compile(r'path "[^"]*" not found|stat \S+: no such file or directory')
_UNREADABLE = ("Chart.yaml file is missing", "does not appear to be a gzipped archive", "chart metadata is missing",
               "validation: chart.metadata", "unable to load chart", "cannot load Chart.yaml")  # fmt: skip
_ADVICE = (
    "Use --debug flag to render out",
    "It looks like you are trying to use a client-go credential plugin",
)
_LEADS = (
    "INSTALLATION FAILED: ",
    "UPGRADE FAILED: ",
    "Kubernetes cluster unreachable: ",
    "kubernetes cluster unreachable: ",
)
_REPEATED = re.compile(r'Invalid value: (?:"(?:[^"\\]|\\.){80,}"|\{.{80,}?\}(?=: ))')
_INVALID = re.compile(
    r"is invalid:|Invalid value|field is immutable|admission webhook|error validating|unknown field|"
    r"ValidatingAdmissionPolicy|cannot be handled as|denied the request|is forbidden: violates PodSecurity|"
    r"unable to build kubernetes objects|failed to create typed patch object|updates to \w+ spec for fields other than"
)


def problem(
    text: str, *, release: str | None = None, doing: str | None = None, secrets: Iterable[str] = ()
) -> problems.HelmProblem:
    """What Helm's standard error says, without any of the `secrets` that it may repeat."""
    said = _clean(redact(text, secrets))
    found = _read(said)
    found.release, found.doing = release, doing
    return found


def redact(text: str, secrets: Iterable[str]) -> str:
    """The text with every secret replaced: itself, each line of it, and as base64 and JSON write it."""
    forms: set[str] = set()
    for secret in secrets:
        for part in {secret, *secret.splitlines()}:
            if len(part) < _SHORTEST:
                continue
            encoded = base64.b64encode(part.encode()).decode()
            forms |= {part, encoded, encoded.rstrip("="), json.dumps(part)[1:-1], part.replace('"', '\\"')}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, REDACTED)
    return text


def _read(said: str) -> problems.HelmProblem:
    for reader in _READERS:
        if found := reader(said):
            return found
    return problems.HelmProblem(
        f"helm failed: {short(said)}" if said else "helm failed without saying why",
        fix=f"the sentence is Helm's own; `{program.command('plan')}` and `{program.command('status')}` show "
        "how things stand",
    )


def _values(said: str) -> problems.HelmProblem | None:
    if _VALUES not in said:
        return None
    chart, found = "", []
    for line in said.partition(_VALUES)[2].splitlines():
        if named := _CHART.match(line.strip()):
            chart = named["chart"]
        elif complaint := _VALUE.match(line):
            dotted = complaint["dotted"]
            pointer = complaint["pointer"] or ""
            if dotted and dotted != "(root)":
                pointer = "/" + dotted.replace(".", "/")
            found.append((chart, pointer, complaint["says"].strip()))
    return problems.ValuesInvalid(tuple(found) or ((chart, "", short(said)),))


def _template(said: str) -> problems.HelmProblem | None:
    for pattern in (_EXECUTION, _PARSE, _YAML, _TEMPLATE, _EXECUTING):
        if matched := pattern.search(said):
            return problems.TemplateFailed(matched["file"], int(matched["line"] or 0), short(matched["says"]))
    return None


def _kube_version(said: str) -> problems.HelmProblem | None:
    matched = _KUBE.search(said)
    return problems.KubeVersionMismatch(matched["wanted"], matched["found"]) if matched else None


def _ownership(said: str) -> problems.HelmProblem | None:
    matched = _OWNED.search(said)
    if not matched:
        return None
    owners = {each["part"]: each["value"] for each in _OWNER.finditer(matched["rest"])}
    owner = "/".join(part for part in (owners.get("namespace"), owners.get("name")) if part) or None
    if owners.keys() == {"namespace"}:
        owner = f"of the same name in {owners['namespace']}"
    return problems.OwnershipConflict(matched["kind"], matched["name"], owner)


def _refusal(said: str) -> problems.HelmProblem | None:
    if matched := _QUOTA.search(said):
        return problems.QuotaExceeded(short(said), matched["quota"] or matched["failed"])
    if "violates PodSecurity" in said:
        return None
    if "is forbidden" in said or "forbidden:" in said:
        right = _FORBIDDEN.search(said)
        return problems.Forbidden(
            short(said), right["verb"] if right else "", right["resource"] if right else ""
        )
    return None


def _kind(said: str) -> problems.HelmProblem | None:
    matched = _NO_MATCH.search(said)
    return problems.KindUnknown(matched["kind"], matched["version"]) if matched else None


def _state(said: str) -> problems.HelmProblem | None:
    if _IN_PROGRESS in said:
        return problems.OperationInProgress(
            "an earlier operation on this release has not finished",
            expected="no other operation, or one that was cut off",
            fix=f"wait for it; if nobody is at work, `{program.command('deploy')}` clears what is left of it "
            "and continues",
        )
    if "has no deployed releases" in said:
        return problems.NoDeployedRevision(
            "the release was never deployed whole: " + short(said),
            fix="uninstall this release and deploy again; homes and database stay",
        )
    if missing := _NAMESPACE.search(said):
        return problems.NamespaceMissing(
            f"the cluster has no namespace {missing['name']}",
            expected="the namespace that the site file names",
            fix=f"`{program.command('deploy')}` makes it where it may; otherwise ask the cluster's "
            "administrator for it",
        )
    if _MISSING_RELEASE.search(said):
        return problems.ReleaseNotFound(
            "the release or revision does not exist", fix=f"`{program.command('status')}` lists them"
        )
    return None


def _cluster(said: str) -> problems.HelmProblem | None:
    if any(sign in said for sign in _UNAUTHORIZED):
        return problems.Unauthorized(
            "the cluster does not accept the credentials",
            expected="a kubeconfig whose credentials are valid now",
            fix="log in again with the tool that made the kubeconfig",
        )
    if _KUBECONFIG.search(said):
        return problems.Unreachable(
            short(said), expected="a usable kubeconfig", fix="check --kubeconfig, --context and KUBECONFIG"
        )
    if any(sign in said for sign in _UNREACHABLE):
        return problems.Unreachable(
            f"the cluster was not reached: {short(said)}",
            expected="an API server that answers",
            fix="check the network, VPN and the kubeconfig's server address, then run the same command again",
        )
    return None


def _ended_early(said: str) -> problems.HelmProblem | None:
    if any(sign in said for sign in _CANCELLED):
        return problems.Interrupted("Helm was interrupted", fix="run the same command again: it continues")
    if any(sign in said for sign in _TIMED_OUT):
        return problems.TimedOut(
            f"Helm waited too long: {short(said)}",
            expected="everything ready within the time given",
            fix=f"`{program.command('status')}` shows what is not ready and why; then run the same command again",
        )
    return None


def _conflict(said: str) -> problems.HelmProblem | None:
    if "conflict" in said and (
        "Apply failed with" in said or "conflict with" in said or "conflicts with" in said
    ):
        return problems.FieldConflict(
            f"somebody else manages fields of an object: {short(said)}",
            expected="fields that only Helm sets",
            fix=f"see the drift with `{program.command('plan')}`, and remove what the other tool does",
        )
    return None


def _invalid(said: str) -> problems.HelmProblem | None:
    if not _INVALID.search(said):
        return None
    return problems.Invalid(
        f"the cluster refuses an object: {short(said)}",
        expected="objects that this cluster and its policies accept",
        fix=f"correct the value that the sentence names; `{program.command('plan')}` shows immutable fields "
        "before anything is done",
    )


def _chart(said: str) -> problems.HelmProblem | None:
    if not _NO_PATH.search(said) and not any(sign in said for sign in _UNREADABLE):
        return None
    return problems.ChartUnreadable(
        f"Helm cannot load the chart: {short(said)}",
        expected="a packaged chart",
        fix="remove the archive from the cache and fetch it again",
    )


_READERS: tuple[Callable[[str], problems.HelmProblem | None], ...] = (
    _values, _kube_version, _ownership, _template, _state, _refusal, _kind, _conflict, _invalid, _ended_early, _cluster,
    _chart,
)  # fmt: skip


def _clean(text: str) -> str:
    """Without the noise before the error: warnings, log lines, colours, Helm's own word `Error:`."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    kept = [
        line
        for line in text.strip().splitlines()
        if not re.match(
            r"(WARNING:|W\d{4} |I\d{4} |E\d{4} |time=|level=|coalesce\.go|warnings\.go|\d{4}/\d\d/\d\d )",
            line,
        )
    ]
    said = "\n".join(kept).removeprefix("Error: ") or text
    for advice in _ADVICE:
        said = said.partition(advice)[0]
    return said.strip()


def short(said: str) -> str:
    """One passage of bounded length. Of a refused object that the cluster repeats whole, only the reason is kept."""
    said = _REPEATED.sub("Invalid value", " ".join(said.split()))
    for lead in _LEADS:
        said = said.removeprefix(lead)
    return said if len(said) <= _LONGEST else f"{said[: _LONGEST // 2]} [...] {said[-_LONGEST // 2 :]}"
