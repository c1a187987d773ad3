"""Admission webhooks that are down: with failurePolicy Fail they stop everything they are asked about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.preflight.endpoints import ready_addresses
from tidehub.kubernetes.preflight.model import Context, Finding
from tidehub.kubernetes.preflight.selecting import selects

_KINDS = ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration")
_PODS = ("", "pods")


def webhooks(context: Context) -> list[Finding]:
    """Webhooks that would be asked about the platform's objects and do not answer."""
    look = context.there
    space = look.one("v1", "Namespace", context.namespace)
    labels = ((space or {}).get("metadata") or {}).get("labels") or {
        "kubernetes.io/metadata.name": context.namespace
    }
    created = _created(context)
    found, asked = [], 0
    for kind in _KINDS:
        for configuration in look.all("admissionregistration.k8s.io/v1", kind):
            for webhook in configuration.get("webhooks") or []:
                if not _concerns(webhook, created, labels):
                    continue
                asked += 1
                why = _down(context, webhook)
                if why:
                    found.append(_finding(configuration, webhook, why))
    return found or [Finding("webhooks", "ok", _counted(asked))]


def _finding(configuration: Object, webhook: Mapping[str, Any], why: str) -> Finding:
    name = f"{configuration['kind']} {configuration['metadata']['name']}"
    if webhook.get("failurePolicy", "Fail") == "Ignore":
        return Finding(
            "webhooks",
            "warning",
            f"the admission webhook {webhook['name']} does not answer; objects are let through without it: {why}",
            "have it repaired, or its configuration removed",
            (name,),
        )
    return Finding(
        "webhooks",
        "problem",
        f"the admission webhook {webhook['name']} does not answer, and the server refuses objects without it: {why}",
        "have the webhook's pods repaired, or its configuration removed",
        (name,),
    )


def _created(context: Context) -> set[tuple[str, str]]:
    """Group and resource of all that is created, pods included: everything ends in some."""
    found = {_PODS}
    if context.rendered is not None:
        plurals = context.there.plurals()
        for _, obj in context.rendered.everything():
            known = plurals.get((str(obj["apiVersion"]), str(obj["kind"])))
            if known is not None:
                found.add((str(obj["apiVersion"]).rpartition("/")[0], known[0]))
    return found


def _concerns(webhook: Mapping[str, Any], created: set[tuple[str, str]], labels: Mapping[str, str]) -> bool:
    if not selects(webhook.get("namespaceSelector"), labels):
        return False
    # Objects are chosen by labels that only some of ours have: those webhooks are the exception, and left out.
    if (webhook.get("objectSelector") or {}).get("matchLabels"):
        return False
    return any(_matches(rule, created) for rule in webhook.get("rules") or [])


def _matches(rule: Mapping[str, Any], created: set[tuple[str, str]]) -> bool:
    if not {"CREATE", "UPDATE", "*"} & set(rule.get("operations") or []):
        return False
    groups, resources = rule.get("apiGroups") or [], rule.get("resources") or []
    return any(
        ("*" in groups or group in groups) and ({"*", "*/*", resource} & set(resources))
        for group, resource in created
    )


def _down(context: Context, webhook: Mapping[str, Any]) -> str | None:
    service: dict[str, Any] = (webhook.get("clientConfig") or {}).get("service") or {}
    if not service:
        # By URL, somewhere outside: only the API server knows whether it gets there.
        return None
    name, where = str(service["name"]), str(service["namespace"])
    if context.there.one("v1", "Service", name, where) is None:
        return f"the Service {name} was not found in namespace {where}"
    if not ready_addresses(context.there, where, name):
        return f"the service {name} in namespace {where} has no pod that is ready"
    return None


def _counted(asked: int) -> str:
    return "no admission webhook is asked about the platform" if not asked else _all_answer(asked)


def _all_answer(asked: int) -> str:
    return (
        f"all {asked} admission webhooks have pods that are ready"
        if asked > 1
        else "the admission webhook has pods"
    )
