"""The README of a rendered folder: how to go on with `helm` and `kubectl` alone. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Set

from tidehub.charts import repositories
from tidehub.kubernetes.cluster.port import FIELD_MANAGER
from tidehub.kubernetes.rendering.model import Rendered, RenderedRelease

_ROLLED_OUT = ("Deployment", "StatefulSet", "DaemonSet")
_TIMEOUT = "15m"


def readme(rendered: Rendered, *, with_secrets: bool, with_charts: bool, paths: Set[str]) -> str:
    """The text. `paths` are the other files of the folder."""
    platform = rendered.platform
    name, namespace = platform.site.site.name, platform.namespace
    lines = [
        f"# {name} on Kubernetes",
        "",
        f"Everything that the namespace `{namespace}` holds for {name}, rendered by tidehub for Kubernetes",
        f"{rendered.kube_version}: release set {platform.release_set}, model {platform.model}. With this folder,",
        "`helm` (3.18 or newer, or 4) and `kubectl` the platform lives on without tidehub. Run the commands in it.",
        "",
        *_contents(with_secrets, with_charts, paths),
        *_secrets(with_secrets, paths),
        *_charts(rendered, with_charts),
        *_install(rendered, with_charts, paths),
        *_look(rendered),
        *_later(rendered),
        *_records(namespace),
    ]
    return "\n".join(lines) + "\n"


def _contents(with_secrets: bool, with_charts: bool, paths: Set[str]) -> list[str]:
    rows = [("`values/`", "values of each release; no secret is in them")]
    if any(path.startswith("secrets/") for path in paths):
        state = "secret values of each release" if with_secrets else "the same for secrets, to be filled in"
        rows.append(("`secrets/`", f"{state}; only you can read them"))
    rows.append(("`charts.yaml`", "which charts, and their digests"))
    if with_charts:
        rows.append(("`charts/`", "the packaged charts themselves"))
    if any(path.startswith("crds/") for path in paths):
        rows.append(
            ("`crds/`", "CRDs that the charts bring; Helm installs them once and never upgrades them")
        )
    rows.append(("`objects/`", "the namespace and what tidehub makes beside the charts"))
    shown = "with secrets" if with_secrets else "with words in the place of secrets"
    rows.append(
        ("`manifests/`", f"what Helm makes of it all, to read and compare ({shown}); nothing to apply")
    )
    return ["| | |", "| --- | --- |", *(f"| {left} | {right} |" for left, right in rows), ""]


def _secrets(with_secrets: bool, paths: Set[str]) -> list[str]:
    files = sorted(path for path in paths if path.startswith("secrets/"))
    if with_secrets or not files:
        return []
    return [
        "## Secrets first",
        "",
        "Write values where `<...>` stands; one name in two files is one value:",
        "",
        *(f"- `{path}`" for path in files),
        "",
        "`tidehub render --with-secrets` writes them for you. Keep these files out of version control.",
        "",
    ]


def _charts(rendered: Rendered, with_charts: bool) -> list[str]:
    if with_charts:
        return []
    lines = [
        "## Charts",
        "",
        "Fetch each once, and see that it is the one that was rendered:",
        "",
        "```console",
    ]
    lines += ["$ mkdir -p charts"]
    for one in rendered.releases:
        archive = one.archive
        source = repositories.PUBLISHED.get(archive.name, "")
        command = ["helm", "pull", archive.name, "--repo", source, "--version", archive.version]
        lines.append(f"$ {shlex.join([*command, '--destination', 'charts'])}")
        lines.append(f"$ echo '{archive.sha256}  {_chart_file(one)}' | sha256sum --check")
    return [*lines, "```", ""]


def _install(rendered: Rendered, with_charts: bool, paths: Set[str]) -> list[str]:
    namespace = rendered.platform.namespace
    lines = [
        "## Install, and upgrade",
        "",
        "The same commands do both, in this order, and may be repeated.",
        "",
        "```console",
        f"$ {_apply(namespace, 'objects/00-namespace.yaml')}",
    ]
    if any(path.startswith("crds/") for path in paths):
        lines.append(
            f"$ kubectl apply --server-side --force-conflicts --field-manager {FIELD_MANAGER} -f crds/"
        )
        lines += [f"$ kubectl wait --for=condition=Established crd/{name}" for name in _names(rendered)]
    if any(path.startswith("objects/") and path != "objects/00-namespace.yaml" for path in paths):
        lines.append(f"$ {_apply(namespace, 'objects/')}")
    lines += [f"$ {shlex.join(_upgrade(one, namespace))}" for one in rendered.releases]
    return [*lines, "```", ""]


def _look(rendered: Rendered) -> list[str]:
    namespace = rendered.platform.namespace
    lines = ["## See that it runs", "", "```console"]
    for one in rendered.releases:
        for obj in one.objects:
            if obj.get("kind") in _ROLLED_OUT:
                what = f"{obj['kind'].lower()}/{obj['metadata']['name']}"
                lines.append(f"$ kubectl -n {namespace} rollout status {what} --timeout {_TIMEOUT}")
    kinds = sorted({_plural(str(obj["kind"])) for obj in _exposing(rendered)} or {"services"})
    lines.append(f"$ kubectl -n {namespace} get pods,persistentvolumeclaims,{','.join(kinds)}")
    lines.append(f"$ kubectl -n {namespace} get events --sort-by .lastTimestamp")
    site = rendered.platform.site
    url = f"{str(site.site.url).rstrip('/')}/hub/health" if site.site.url else ""
    return [*lines, *([f"$ curl --fail {shlex.quote(url)}"] if url else []), "```", ""]


def _later(rendered: Rendered) -> list[str]:
    namespace = rendered.platform.namespace
    releases = list(rendered.releases)
    lines = ["## Go back, or take it away", "", "```console"]
    lines += [f"$ helm history {one.release.name} -n {namespace}" for one in releases]
    lines += [f"$ helm rollback {one.release.name} REVISION -n {namespace}" for one in reversed(releases)]
    lines += [
        "```",
        "",
        "A rollback brings back objects, not the hub's database: copy that first. To take it all away:",
    ]
    lines += ["", "```console"]
    if any(one.release.chart in ("dask-gateway", "daskhub") and one.crds for one in releases):
        lines.append(f"$ kubectl -n {namespace} delete daskclusters.gateway.dask.org --all --wait")
    lines += [f"$ helm uninstall {one.release.name} -n {namespace} --wait" for one in reversed(releases)]
    lines += [
        "```",
        "",
        "Helm keeps users' homes (PVCs that the hub made) and CRDs.",
        *_pvcs(rendered),
        "`kubectl delete namespace` deletes everything, homes too.",
        "",
    ]
    return lines


def _pvcs(rendered: Rendered) -> list[str]:
    said = []
    for one in rendered.releases:
        for obj in one.objects:
            if obj.get("kind") == "PersistentVolumeClaim":
                kept = (obj["metadata"].get("annotations") or {}).get("helm.sh/resource-policy") == "keep"
                does = "keeps" if kept else "deletes"
                also = "" if kept else ", with all that is in it: copy that before"
                said.append(f"It {does} the PVC `{obj['metadata']['name']}`{also}.")
    return said


def _records(namespace: str) -> list[str]:
    return [
        "## What tidehub leaves behind",
        "",
        "A ConfigMap with its records and a Lease; nothing reads them when tidehub is gone.",
        "",
        "```console",
        f"$ kubectl -n {namespace} delete configmap/tidehub lease/tidehub --ignore-not-found",
        "```",
    ]


def _apply(namespace: str, path: str) -> str:
    where = [] if path.endswith("00-namespace.yaml") else ["-n", namespace]
    command = ["kubectl", *where, "apply", "--server-side", "--field-manager", FIELD_MANAGER, "-f", path]
    return shlex.join(command)


def _upgrade(one: RenderedRelease, namespace: str) -> list[str]:
    name = one.release.name
    command = ["helm", "upgrade", name, _chart_file(one), "--install", "--namespace", namespace]
    command += ["--reset-values", "--skip-crds", "--values", f"values/{name}.yaml"]
    if one.release.secrets:
        command += ["--values", f"secrets/{name}.secrets.yaml"]
    return [*command, "--timeout", _TIMEOUT]


def _chart_file(one: RenderedRelease) -> str:
    return f"charts/{one.archive.name}-{one.archive.version}.tgz"


def _names(rendered: Rendered) -> Iterable[str]:
    return sorted(str(crd["metadata"]["name"]) for crd in rendered.crds)


def _exposing(rendered: Rendered) -> list[dict[str, object]]:
    kinds = ("Ingress", "HTTPRoute", "Gateway")
    return [obj for _, obj in rendered.everything() if obj.get("kind") in kinds]


def _plural(kind: str) -> str:
    return {"Ingress": "ingresses", "HTTPRoute": "httproutes", "Gateway": "gateways"}[kind]
