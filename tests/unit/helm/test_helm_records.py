"""Helm's records: reading them, and getting a release out of a pending state."""

from __future__ import annotations

import base64
import gzip
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tidehub.errors import TidehubError
from tidehub.helm.records import marked_failed, newest, newest_of_each, selector, stored


def record(revision: int, status: str, **more: Any) -> dict[str, Any]:
    found = {
        "name": "hub", "namespace": "site", "version": revision, "config": {"token": "kept"},
        "info": {"status": status, "description": "Preparing upgrade", "first_deployed": "2026-11-22T08:00:00Z"},
        "chart": {"metadata": {"name": "jupyterhub", "version": "4.4.0"}, "templates": []},
        "manifest": "kind: X\n",
    }  # fmt: skip
    packed = gzip.compress(json.dumps({**found, **more}).encode())
    return {
        "apiVersion": "v1", "kind": "Secret", "type": "helm.sh/release.v1",
        "metadata": {
            "name": f"sh.helm.release.v1.hub.v{revision}", "resourceVersion": "77",
            "labels": {"owner": "helm", "name": "hub", "status": status, "version": str(revision)},
        },
        "data": {"release": base64.b64encode(base64.b64encode(packed)).decode()},
    }  # fmt: skip


class Cluster:
    """Secrets of one namespace."""

    def __init__(self, *secrets: dict[str, Any]) -> None:
        self.secrets = list(secrets)
        self.replaced: list[dict[str, Any]] = []

    def find(
        self, api_version: str, kind: str, namespace: str | None = None, **asked: Any
    ) -> list[dict[str, Any]]:
        assert (api_version, kind, namespace) == ("v1", "Secret", "site")
        assert asked == {"labels": "owner=helm,name=hub", "fields": "type=helm.sh/release.v1"}
        return self.secrets

    def replace(
        self, obj: dict[str, Any], namespace: str | None = None, *, dry_run: bool = False
    ) -> dict[str, Any]:
        assert namespace == "site" and not dry_run
        self.replaced.append(obj)
        return obj


def test_a_record_says_what_it_is() -> None:
    found = stored(record(3, "pending-upgrade"))
    assert (found.release, found.namespace, found.revision, found.status) == (
        "hub",
        "site",
        3,
        "pending-upgrade",
    )
    assert (found.chart, found.chart_version, found.description) == (
        "jupyterhub",
        "4.4.0",
        "Preparing upgrade",
    )


@pytest.mark.parametrize("status", ["pending-install", "pending-upgrade", "pending-rollback"])
def test_a_pending_revision_is_marked_failed_and_nothing_else_changes(status: str) -> None:
    secret = marked_failed(record(10, status), "killed")
    assert secret["metadata"]["labels"]["status"] == "failed"
    assert secret["metadata"]["resourceVersion"] == "77", "the guard against a Helm that is at work"
    after, before = unpacked(secret), unpacked(record(10, status))
    assert after["info"]["status"] == "failed" and "killed" in after["info"]["description"]
    assert {**after, "info": None} == {**before, "info": None}
    assert after["info"]["first_deployed"] == before["info"]["first_deployed"]


def unpacked(secret: dict[str, Any]) -> dict[str, Any]:
    found = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(secret["data"]["release"]))))
    assert isinstance(found, dict)
    return found


def test_the_newest_is_by_number_and_not_by_name() -> None:
    found = newest([record(9, "failed"), record(10, "deployed"), record(2, "superseded")])
    assert found is not None and found["metadata"]["labels"]["version"] == "10"
    assert newest([]) is None


def test_the_time_is_written_as_helm_does() -> None:
    secret = marked_failed(record(1, "pending-install"), "x", datetime(2026, 11, 22, tzinfo=UTC))
    assert secret["metadata"]["labels"]["modifiedAt"] == "1795305600"


def test_records_before_helm_compressed_them() -> None:
    secret = record(1, "deployed")
    plain = base64.b64encode(json.dumps(unpacked(secret)).encode())
    secret["data"]["release"] = base64.b64encode(plain).decode()
    assert stored(secret).revision == 1


@pytest.mark.parametrize("data", [{}, {"release": "!"}, {"release": "bm90aGluZw=="}, {"release": ""}])
def test_a_damaged_record_is_named(data: dict[str, str]) -> None:
    secret = {**record(1, "deployed"), "data": data}
    with pytest.raises(TidehubError, match=r"sh\.helm\.release\.v1\.hub\.v1"):
        stored(secret)


def test_selectors() -> None:
    assert selector() == "owner=helm" and selector("hub") == "owner=helm,name=hub"


def test_the_newest_of_each_release_and_nothing_that_is_no_record() -> None:
    other = {"type": "Opaque", "metadata": {"name": "x", "labels": {"name": "hub", "version": "99"}}}
    found = newest_of_each([record(9, "failed"), record(10, "deployed"), other])
    assert {name: one["metadata"]["labels"]["version"] for name, one in found.items()} == {"hub": "10"}
