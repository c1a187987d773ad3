"""Which pods of ended clusters are ended, and when."""

from __future__ import annotations

import sys
import types

import pytest


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The module that travels; this environment has no client of the gateway's image."""
    rest = types.ModuleType("kubernetes_asyncio.client.rest")
    rest.ApiException = Exception  # type: ignore[attr-defined]
    for name in ("kubernetes_asyncio", "kubernetes_asyncio.client"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, rest.__name__, rest)
    monkeypatch.delitem(sys.modules, "tidehub.kubernetes.api_pod.leftovers", raising=False)
    from tidehub.kubernetes.api_pod import leftovers

    return leftovers


def test_a_pod_without_an_active_cluster_has_its_grace(module: types.ModuleType) -> None:
    found = module.Leftovers()
    pods = [("a", "ns.gone"), ("b", "ns.runs")]
    assert found.due(pods, {"ns.runs"}, 100.0) == set()
    assert found.due(pods, {"ns.runs"}, 100.0 + module.GRACE - 1) == set()
    assert found.due(pods, {"ns.runs"}, 100.0 + module.GRACE) == {"a"}


def test_a_cluster_that_shows_later_was_only_behind(module: types.ModuleType) -> None:
    found = module.Leftovers()
    assert found.due([("a", "ns.new")], set(), 0.0) == set()
    assert found.due([("a", "ns.new")], {"ns.new"}, 20.0) == set()
    # The count begins again.
    assert found.due([("a", "ns.new")], set(), 40.0) == set()
    assert found.due([("a", "ns.new")], set(), 40.0 + module.GRACE) == {"a"}
