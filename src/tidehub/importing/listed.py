"""What `kubectl get ingress -o yaml` prints: a list of objects, of which those that lead to the hub are of use."""

from __future__ import annotations

from typing import Any

from tidehub.importing.values_yaml import Document, ValuesError
from tidehub.site.problems import Problem

HUB_SERVICE = "proxy-public"
"""The way into the hub, in every version of the jupyterhub chart."""


def of_list(document: Document) -> list[Document]:
    """The Ingresses of a list that lead to the hub, each as a document; any other document as it is.

    Raises `ValuesError` for a list without such an Ingress.
    """
    items = document.data.get("items")
    if not str(document.data.get("kind")).endswith("List") or not isinstance(items, list):
        return [document]
    found = [
        _item(document, index)
        for index, item in enumerate(items)
        if isinstance(item, dict) and item.get("kind") == "Ingress" and _leads_to_hub(item.get("spec"))
    ]
    if not found:
        raise ValuesError(
            [
                Problem(
                    f"no Ingress in this list leads to the hub (the Service {HUB_SERVICE})",
                    where=document.places["kind",],
                    expected="values, or an Ingress",
                    fix="leave this file out, or give the Ingress in a file of its own",
                )
            ]
        )
    return found


def _leads_to_hub(node: Any) -> bool:
    """Whether the Service is named anywhere in a specification: its place differs between versions of the API."""
    if isinstance(node, dict):
        return any(_leads_to_hub(inner) for inner in node.values())
    if isinstance(node, list):
        return any(_leads_to_hub(inner) for inner in node)
    return bool(node == HUB_SERVICE)


def _item(document: Document, index: int) -> Document:
    before = ("items", index)
    places = {
        path[2:]: place for path, place in document.places.items() if path[:2] == before and len(path) > 2
    }
    return Document(document.file, document.data["items"][index], places)
