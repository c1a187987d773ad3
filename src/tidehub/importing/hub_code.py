"""What joins hub and gateway, and tidehub makes itself: the service, its roles, and Python in `hub.extraConfig`."""

from __future__ import annotations

import ast
from typing import Any

from tidehub.importing.charts import Recognised
from tidehub.importing.draft import Draft
from tidehub.importing.fates import ChartValues
from tidehub.importing.notebooks import is_glue
from tidehub.importing.python_reading import Statements, parse
from tidehub.site.problems import KeyPath

_OWN = "tidehub joins hub and gateway itself"
_SCOPES = {"self", "users:activity!user", "access:servers!server"}
_ACCESS = {"access:services!service=dask-gateway", "access:services"}


def import_joints(found: Recognised, draft: Draft) -> None:
    """Drop what tidehub makes itself, keep the rest; set `kubernetes.user_scheduler`."""
    hub = found.jupyterhub
    service: KeyPath = ("hub", "services", "dask-gateway")
    if hub.get(*service, "display") is False:
        hub.dropped((*service, "display"), _OWN)
    if hub.text(*service, "url") is not None:
        hub.dropped((*service, "url"), _OWN)
    if hub.has(*service) and hub.get(*service) in ({}, None):
        hub.dropped(service, _OWN)
    _roles(hub)
    _network(hub)
    for name in hub.mapping("hub", "extraConfig"):
        _code(hub, ("hub", "extraConfig", name), draft)
    if isinstance(hub.get("hub", "extraConfig"), str):
        _code(hub, ("hub", "extraConfig"), draft)
    path: KeyPath = ("scheduling", "userScheduler", "enabled")
    if isinstance(hub.get(*path), bool):
        draft.put("kubernetes.user_scheduler", hub.get(*path), hub.place(path))
        hub.understood(path, "kubernetes.user_scheduler")
    elif hub.data:
        draft.choose(
            "kubernetes.user_scheduler",
            False,
            "the chart's default is true: a second kube-scheduler, which stops servers when it is broken",
            "false",
        )
    if hub.get("rbac", "create") is True:
        hub.dropped(("rbac", "create"), "the chart's own default")
    _switches(found)


def _switches(found: Recognised) -> None:
    gateway, meta = found.gateway, found.daskhub
    if gateway.has("enabled"):
        gateway.dropped(
            ("enabled",),
            "this has no effect: daskhub installs the gateway anyway (its Chart.yaml has no condition for it). "
            "dask.engine: none is how a site does without it",
        )
    if found.jupyterhub.has("enabled"):
        found.jupyterhub.dropped(("enabled",), "this has no effect on the chart")
    if meta.has("dask-kubernetes", "enabled"):
        meta.dropped(
            ("dask-kubernetes", "enabled"),
            "the classic dask-kubernetes has ended; Dask Gateway takes its place",
        )
    if meta.get("rbac", "enabled") is True:
        meta.dropped(("rbac", "enabled"), "the chart's own default")
    path: KeyPath = ("singleuser", "serviceAccountName")
    if found.jupyterhub.get(*path) == "daskkubernetes":
        found.jupyterhub.passed(path, "classic dask-kubernetes needed it: servers may make pods with it")


def _roles(hub: ChartValues) -> None:
    for role in ("user", "server"):
        path: KeyPath = ("hub", "loadRoles", role)
        own = hub.mapping(*path)
        scopes = own.get("scopes")
        plain = isinstance(scopes, list) and all(isinstance(scope, str) for scope in scopes)
        if (
            plain
            and set(own) <= {"scopes", "description"}
            and _ACCESS & set(scopes or [])
            and (set(scopes or []) <= _SCOPES | _ACCESS)
        ):
            hub.dropped(path, f"{_OWN}: users' servers may use the gateway")


def _network(hub: ChartValues) -> None:
    path: KeyPath = ("singleuser", "networkPolicy", "egress")
    rules = hub.get(*path)
    if isinstance(rules, list) and rules and all(_to_gateway(rule) for rule in rules):
        hub.dropped(path, f"{_OWN}: servers may reach the gateway's proxy")


def _to_gateway(rule: Any) -> bool:
    if not isinstance(rule, dict) or not set(rule) <= {"to", "ports"}:
        return False
    targets = rule.get("to")
    if not isinstance(targets, list) or not targets:
        return False
    for target in targets:
        selector = (
            target.get("podSelector") if isinstance(target, dict) and set(target) == {"podSelector"} else None
        )
        labels = selector.get("matchLabels") if isinstance(selector, dict) else None
        if not isinstance(labels, dict) or labels.get("app.kubernetes.io/name") != "dask-gateway":
            return False
    return True


def _code(hub: ChartValues, path: KeyPath, draft: Draft) -> None:
    code = hub.get(*path)
    if not isinstance(code, str):
        return
    tree = parse(code)
    if tree is None:
        hub.passed(path, "this is not Python that can be read; kept as it is")
        return
    statements = Statements(code, tree)
    if _is_daskhub_glue(str(path[-1]), tree):
        hub.dropped(path, f"{_OWN}, as this code of the daskhub chart does")
        return
    for statement in statements:
        names = _environment_names(statement)
        if names and all(is_glue(name) for name in names):
            statements.take(statement)
        elif names == ["DASK_GATEWAY__CLUSTER__OPTIONS__IMAGE"] and "JUPYTER_IMAGE" in ast.dump(statement):
            draft.put("dask.image.default", "profile", hub.place(path))
            statements.take(statement)
    rest = statements.rest()
    if not rest.strip():
        hub.dropped(path, f"{_OWN}: this only tells notebooks where the gateway is")
        return
    remark = "Python for the hub, kept for Kubernetes; overrides.hub_config is the place for both targets"
    if rest != code:
        hub.rest[path] = rest
        remark += "; what only tells notebooks where the gateway is was taken out"
    hub.passed(path, remark)


def _environment_names(statement: ast.stmt) -> list[str]:
    """The variables that a statement sets on KubeSpawner's environment; none for any other statement."""
    match statement:
        case ast.Expr(
            value=ast.Call(
                func=ast.Attribute(value=target, attr="setdefault"),
                args=[ast.Constant(value=str() as name), _],
            )
        ) if _is_environment(target):
            return [name]
        case ast.Expr(
            value=ast.Call(
                func=ast.Attribute(value=target, attr="update"), args=[ast.Dict(keys=keys)], keywords=[]
            )
        ) if _is_environment(target):
            return [str(getattr(key, "value", "")) for key in keys]
        case ast.Assign(targets=[ast.Subscript(value=target, slice=ast.Constant(value=str() as name))]) if (
            _is_environment(target)
        ):
            return [name]
    return []


def _is_environment(node: ast.expr) -> bool:
    match node:
        case ast.Attribute(
            value=ast.Attribute(value=ast.Name(id="c"), attr="KubeSpawner" | "Spawner"), attr="environment"
        ):
            return True
    return False


def _is_daskhub_glue(name: str, tree: ast.Module) -> bool:
    """The code that the daskhub chart itself carries; `helm get values --all` shows it."""
    if name != "00-add-dask-gateway-values":
        return False
    owners = {
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and _root(node) == "c"
    }
    set_names = [
        name for node in ast.walk(tree) if isinstance(node, ast.stmt) for name in _environment_names(node)
    ]
    shorter = {owner for owner in owners if owner.count(".") == 2}
    return shorter <= {"c.KubeSpawner.environment", "c.JupyterHub.services"} and all(
        is_glue(name) or name.startswith(("DASK_GATEWAY__", "DASK_LABEXTENSION__")) for name in set_names
    )


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""
