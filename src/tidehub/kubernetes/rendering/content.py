"""What is in the folder that `tidehub render` writes. Pure, except that charts are read."""

from __future__ import annotations

from collections.abc import Mapping

from tidehub.charts import repositories
from tidehub.charts.archive import Chart, open_chart
from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.rendering.folder import FileText
from tidehub.kubernetes.rendering.model import Rendered, RenderedRelease
from tidehub.kubernetes.rendering.readme import readme
from tidehub.kubernetes.rendering.stand_ins import secret_values
from tidehub.kubernetes.rendering.yaml_text import manifest_of, text_of
from tidehub.secrets.charts import revealed

NAMESPACE_FILE = "objects/00-namespace.yaml"


def files(rendered: Rendered, *, with_secrets: bool, with_charts: bool) -> dict[str, FileText]:
    """The files by path. Without `with_secrets` the platform has to be one of stand-ins: see `stand_ins`."""
    found: dict[str, FileText] = {}

    def put(path: str, text: str, *, private: bool = False) -> None:
        found[path] = FileText(text.encode(), private)

    for one in rendered.releases:
        name = one.release.name
        put(
            f"values/{name}.yaml",
            _head(one, "its values; no secret is in them") + text_of(dict(one.release.values)),
        )
        if one.release.secrets:
            put(f"secrets/{name}.secrets.yaml", _secrets(one, with_secrets), private=True)
        put(f"manifests/{name}.yaml", _manifest(one, with_secrets), private=with_secrets)
        if with_charts:
            archive = one.archive
            found[f"charts/{archive.name}-{archive.version}.tgz"] = FileText(archive.path.read_bytes())
        for path, content in _crds(open_chart(one.archive.path)).items():
            found.setdefault(f"crds/{path}", FileText(content))
    put("charts.yaml", _charts(rendered))
    for path, obj in _objects(rendered).items():
        put(path, manifest_of([obj]))
    put("README.md", readme(rendered, with_secrets=with_secrets, with_charts=with_charts, paths=set(found)))
    return found


def namespace(rendered: Rendered) -> Object:
    """The namespace that the platform lives in."""
    labels = {"app.kubernetes.io/managed-by": "tidehub"}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": rendered.platform.namespace, "labels": labels},
    }


def _head(one: RenderedRelease, what: str) -> str:
    return (
        f"# The release {one.release.name} of the chart {one.release.chart} {one.release.version}: {what}.\n"
    )


def _secrets(one: RenderedRelease, with_secrets: bool) -> str:
    values = text_of(revealed(one.release.secrets))
    if with_secrets:
        return _head(one, "its secrets. Keep this file to yourself") + values
    lines = [_head(one, "its secrets, still to be filled in; keep this file to yourself then")]
    lines.append("# In the place of each value stands the name that it has in the site's secrets file:\n")
    for secret in secret_values(one.release.secrets):
        purpose = f": it {secret.purpose}" if secret.purpose else ""
        lines.append(f"#   {secret.path}\n#     {secret.name}{purpose}\n")
    lines.append("# `tidehub render --with-secrets` writes the file with its values.\n")
    return "".join(lines) + values


def _manifest(one: RenderedRelease, with_secrets: bool) -> str:
    said = (
        ""
        if with_secrets
        else "\n# Words stand in for secrets here, so checksums of them differ from a deployment's"
    )
    head = _head(one, f"its objects as Helm renders them, and at the end its hooks{said}")
    return head + manifest_of([*one.objects, *one.hooks])


def _crds(chart: Chart) -> Mapping[str, bytes]:
    """Files below `crds/` of a chart and the charts in it, as they are there."""
    found: dict[str, bytes] = {}
    for inside in chart.subcharts:
        found.update(_crds(inside))
    for path, content in chart.files.items():
        if path.startswith("crds/") and path.endswith((".yaml", ".yml", ".json")):
            found[f"{chart.metadata.name}-{path.removeprefix('crds/').replace('/', '-')}"] = content
    return found


def _charts(rendered: Rendered) -> str:
    listed = [
        {
            "name": one.archive.name,
            "version": one.archive.version,
            "sha256": one.archive.sha256,
            "repository": repositories.PUBLISHED.get(one.archive.name, ""),
            "release": one.release.name,
        }
        for one in rendered.releases
    ]
    made = {
        "namespace": rendered.platform.namespace,
        "release_set": rendered.platform.release_set,
        "model": rendered.platform.model,
        "kubernetes": rendered.kube_version,
        "charts": listed,
    }
    return (
        "# What was rendered, in the order of installation. sha256 is that of the packaged chart.\n"
        + text_of(made)
    )


def _objects(rendered: Rendered) -> dict[str, Object]:
    found: dict[str, Object] = {}
    if not any(obj.get("kind") == "Namespace" for obj in rendered.objects):
        found[NAMESPACE_FILE] = namespace(rendered)
    for obj in rendered.objects:
        kind = str(obj["kind"]).lower()
        path = NAMESPACE_FILE if kind == "namespace" else f"objects/{kind}-{obj['metadata']['name']}.yaml"
        count = 1
        while path in found:
            count += 1
            path = f"objects/{kind}-{obj['metadata']['name']}-{count}.yaml"
        found[path] = obj
    return found
