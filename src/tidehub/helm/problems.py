"""What goes wrong in Helm, as errors that an operator can act on. The types; `sentences` finds them in Helm's words."""

from __future__ import annotations

from tidehub import program
from tidehub.errors import INTERRUPTED, Place, TidehubError


class HelmProblem(TidehubError):
    """Helm refused or failed. This class itself: with a sentence that tidehub does not know.

    `release` and `doing` say what it was about, for example `jupyterhub` and `upgrade`.
    """

    release: str | None = None
    doing: str | None = None


class HelmMissing(HelmProblem):
    """There is no `helm` program that tidehub can use."""


class ValuesInvalid(HelmProblem):
    """A chart's schema refuses the values. All its complaints are in `found`; the first one is in the fields."""

    def __init__(self, found: tuple[tuple[str, str, str], ...]) -> None:
        self.found = found
        """Chart, path as a JSON pointer (empty for the root), and what the schema says of it."""
        self.chart, self.path, self.expected_by_schema = found[0]
        super().__init__(
            "the chart refuses these values:\n"
            + "\n".join(f"    {chart} at {path or 'the root'}: {says}" for chart, path, says in found),
            expected="values as the charts' schemas describe them",
            fix="correct the keys of the site file that become these values, or overrides.helm",
        )


class TemplateFailed(HelmProblem):
    """A template of a chart cannot be rendered with these values."""

    def __init__(self, file: str, line: int, message: str) -> None:
        self.file, self.line, self.message = file, line, message
        super().__init__(
            f"the chart cannot be rendered: {message}",
            where=Place(file, line),
            expected="values that the chart can work with",
            fix="the sentence is the chart's own: set what it asks for, or change overrides.helm",
        )


class ChartUnreadable(HelmProblem):
    """What was given is not a chart that Helm can load."""


class KubeVersionMismatch(HelmProblem):
    """The chart is not for this version of Kubernetes."""

    def __init__(self, wanted: str, found: str) -> None:
        self.wanted, self.found = wanted, found
        super().__init__(
            f"the chart does not support Kubernetes {found}",
            expected=f"Kubernetes {wanted}",
            fix="upgrade the cluster, or pin an older chart in kubernetes.charts",
        )


class Unreachable(HelmProblem):
    """The cluster did not answer, or nothing says where it is."""


class Unauthorized(HelmProblem):
    """The cluster does not accept the credentials."""


class Forbidden(HelmProblem):
    """These credentials may not do this in the cluster."""

    def __init__(self, message: str, verb: str = "", resource: str = "") -> None:
        self.verb, self.resource = verb, resource
        may = f"the permission to {verb} {resource}" if verb else "the permissions for it"
        super().__init__(
            message,
            expected=may,
            fix=f"ask the cluster's administrator; `{program.command('preflight')}` lists all",
        )


class QuotaExceeded(HelmProblem):
    """A resource quota of the namespace leaves no room."""

    def __init__(self, message: str, quota: str) -> None:
        self.quota = quota
        super().__init__(
            message,
            expected=f"room in the ResourceQuota {quota}",
            fix="free something in the namespace, have the quota raised, or lower the site's sizes",
        )


class ReleaseNotFound(HelmProblem):
    """There is no such release, or no such revision of it."""


class NamespaceMissing(HelmProblem):
    """The namespace is not there."""


class OwnershipConflict(HelmProblem):
    """An object already exists and belongs to somebody else. Ids are those of the first one Helm met."""

    def __init__(self, kind: str, name: str, owner: str | None) -> None:
        self.kind, self.name, self.owner = kind, name, owner
        """The release that owns it, `namespace/name` where the namespace differs; None for an object without one."""
        owner_words = (
            f"the release {owner}"
            if owner
            else "no release: somebody created it by hand or with another tool"
        )
        super().__init__(
            f"{kind} {name} already exists and belongs to {owner_words}",
            expected="a namespace without objects of these names, or objects of this release",
            fix=f"look at it with `{program.command('plan')}`; remove it, use another namespace, or take it over with "
            f"--adopt {kind}/{name}",
        )


class FieldConflict(HelmProblem):
    """Somebody else manages fields of an object (server-side apply)."""


class OperationInProgress(HelmProblem):
    """An earlier operation on the release has not ended, or ended without writing that down."""


class NoDeployedRevision(HelmProblem):
    """The release never got to work, and Helm has nothing to compare with."""


class TimedOut(HelmProblem):
    """Helm, or something it waited for, did not end in time."""


class Interrupted(HelmProblem):
    """Somebody stopped Helm in the middle."""

    exit_code = INTERRUPTED


class KindUnknown(HelmProblem):
    """The cluster does not know a kind of object: a CRD is missing, or an API was removed."""

    def __init__(self, kind: str, version: str) -> None:
        self.kind, self.version = kind, version
        super().__init__(
            f"the cluster does not serve {kind} of {version}",
            expected="the CustomResourceDefinitions of the charts, or a cluster version that still has this API",
            fix=f"`{program.command('deploy')}` applies the charts' CRDs first; "
            f"`{program.command('preflight')}` lists what is missing",
        )


class Invalid(HelmProblem):
    """The cluster refuses an object: a bad or immutable field, or an admission policy."""
