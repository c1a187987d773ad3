"""Helm values to site data: the rules in their order, and the result with everything that an operator is told. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tidehub.errors import Place
from tidehub.importing.charts import Model, Recognised, recognise
from tidehub.importing.draft import Chosen, Draft, FoundSecret, is_line
from tidehub.importing.exposure import import_exposure
from tidehub.importing.fates import LeafFate
from tidehub.importing.gateway import import_gateway
from tidehub.importing.hub_code import import_joints
from tidehub.importing.login import import_hub_secrets, import_login
from tidehub.importing.notebooks import import_database, import_notebooks
from tidehub.importing.passing import overrides_of
from tidehub.importing.values_yaml import Document
from tidehub.site.model.overrides import CHARTS
from tidehub.site.problems import KeyPath, Problem


@dataclass(frozen=True)
class Imported:
    """A site, its secrets, and what became of every value."""

    files: tuple[str, ...]
    """The values files in the order in which they were given."""
    model: Model
    site: dict[str, Any]
    """The data of the site file; quantities are text with units."""
    origins: dict[KeyPath, Place]
    leaves: tuple[LeafFate, ...]
    chosen: tuple[Chosen, ...]
    secrets: dict[str, FoundSecret]
    """By the names of `tidehub.secrets.declared`."""
    secret_overrides: dict[str, Any]
    """Secret chart values that no declaration knows, by chart. Never shown."""
    placeholders: tuple[tuple[str, Place], ...]
    remarks: tuple[Problem, ...]


def import_documents(
    documents: list[Document], *, namespace: str | None = None, name: str | None = None
) -> Imported:
    """Import values, documents in the order of `helm -f`. Raises `ValuesError`."""
    found = recognise(documents)
    draft = Draft()
    _sections(draft)
    draft.put("kubernetes.namespace", namespace or "daskhub")
    draft.put("kubernetes.model", found.model)
    import_hub_secrets(found.jupyterhub, draft)
    import_exposure(found, draft)
    if namespace is not None:
        draft.put("kubernetes.namespace", namespace)
    import_login(found.jupyterhub, draft)
    import_notebooks(found.jupyterhub, draft)
    import_database(found.jupyterhub, draft)
    import_joints(found, draft)
    _dask(found, draft)
    _name(draft, name)
    for chart in found.charts:
        chart.settle_the_rest()
    secret = _overrides(found, draft)
    return Imported(
        files=tuple(document.file for document in documents),
        model=found.model,
        site={key: value for key, value in draft.data.items() if value},
        origins=draft.origins,
        leaves=tuple(leaf for chart in found.charts for leaf in chart.accounts()),
        chosen=tuple(draft.chosen),
        secrets=draft.secrets,
        secret_overrides=secret,
        placeholders=tuple(draft.placeholders),
        remarks=tuple(found.remarks),
    )


def _sections(draft: Draft) -> None:
    """The order in which a site file is read."""
    for section in ("site", "login", "notebooks", "dask", "hub", "kubernetes", "overrides"):
        draft.data[section] = {}
    draft.data["site"]["name"] = ""
    draft.data["login"]["provider"] = ""


def _dask(found: Recognised, draft: Draft) -> None:
    if found.gateway.data or found.model == "daskhub":
        import_gateway(found.gateway, draft)
        return
    if found.jupyterhub.has("hub", "services", "dask-gateway"):
        why = "the hub knows a service dask-gateway, but its chart's values are not among these files"
        draft.choose("dask.engine", "gateway", why)
    else:
        draft.choose("dask.engine", "none", "no values of dask-gateway are among these files")


def _name(draft: Draft, name: str | None) -> None:
    if name is not None:
        draft.put("site.name", name)
        return
    url = draft.get("site.url")
    host = url.split("://", 1)[1].split("/")[0].split(":")[0] if url else ""
    label = host.split(".")[0] if not host.replace(".", "").isdigit() else host
    label = label[:1].upper() + label[1:] if is_line(label) else "Hub"
    draft.choose("site.name", label, "the values name no community; --name sets it")


def _overrides(found: Recognised, draft: Draft) -> dict[str, Any]:
    by_name = {"jupyterhub": found.jupyterhub, "dask-gateway": found.gateway, "daskhub": found.daskhub}
    secret: dict[str, Any] = {}
    for chart in CHARTS:
        plain, hidden = overrides_of(by_name[chart])
        if plain:
            draft.data["overrides"].setdefault("helm", {})[chart] = plain
        if hidden:
            secret[chart] = hidden
    return secret
