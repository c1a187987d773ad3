from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stub_api import CUT, Reply, Request, StubApi, refusal

from tidehub.kubernetes.cluster import transport
from tidehub.kubernetes.cluster.port import ClusterProblem

MAPS = "/api/v1/namespaces/n/configmaps"
ONE = f"{MAPS}/one"
MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}}
Start = Callable[..., StubApi]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts a server with a script."""
    monkeypatch.setattr(transport, "_PAUSES", (0.01, 0.01, 0.01))
    started: list[StubApi] = []

    def go(script: Callable[[Request], Any]) -> StubApi:
        started.append(StubApi(script))
        return started[-1]

    yield go
    for one in started:
        one.stop()


def _script(path: str, *replies: Any) -> Callable[[Request], Any]:
    """Replies to a path in turn, the last one for ever."""

    def answer(request: Request) -> Any:
        return replies[min(request.count, len(replies) - 1)] if request.path == path else None

    return answer


@pytest.mark.parametrize(
    "trouble",
    [
        Reply(429, refusal(429, "TooManyRequests", "slow down"), {"Retry-After": "0"}),
        Reply(500, refusal(500, "InternalError", "etcd")),
        Reply(503, "<html>no backend</html>"),
        CUT,
    ],
    ids=["429", "500", "503", "cut"],
)
def test_a_read_is_tried_again(start: Start, tmp_path: Path, trouble: Any) -> None:
    api = start(_script(ONE, trouble, trouble, Reply(body=MAP)))
    assert api.connect(tmp_path).get("v1", "ConfigMap", "one", "n") == MAP
    assert api.asked("GET", ONE) == 3


def test_tries_end(start: Start, tmp_path: Path) -> None:
    api = start(_script(ONE, Reply(503, refusal(503, "ServiceUnavailable", "no backend"))))
    with pytest.raises(ClusterProblem) as raised:
        api.connect(tmp_path).get("v1", "ConfigMap", "one", "n")
    assert (raised.value.reason, raised.value.status) == ("other", 503)
    assert "the server failed (HTTP 503): no backend" in str(raised.value)
    assert api.asked("GET", ONE) == transport.ATTEMPTS


@pytest.mark.parametrize(
    "trouble", [Reply(500, refusal(500, "InternalError", "etcd")), CUT], ids=["500", "cut"]
)
def test_what_may_have_been_done_is_not_done_twice(start: Start, tmp_path: Path, trouble: Any) -> None:
    api = start(_script(MAPS, trouble, Reply(201, MAP)))
    with pytest.raises(ClusterProblem):
        api.connect(tmp_path).create(MAP, "n")
    assert api.asked("POST", MAPS) == 1


def test_what_was_turned_away_is_tried_again(start: Start, tmp_path: Path) -> None:
    busy = Reply(429, refusal(429, "TooManyRequests", "slow down"))
    api = start(_script(MAPS, busy, Reply(201, MAP)))
    assert api.connect(tmp_path).create(MAP, "n") == MAP


def test_an_apply_is_tried_again(start: Start, tmp_path: Path) -> None:
    api = start(_script(ONE, CUT, Reply(body=MAP)))
    assert api.connect(tmp_path).apply(MAP, "n") == MAP
    last = api.requests[-1]
    assert last.headers["Content-Type"] == "application/apply-patch+yaml"
    assert last.query == {"fieldManager": "tidehub", "force": "false"}


def test_an_answer_that_drips_is_late(start: Start, tmp_path: Path) -> None:
    api = start(_script(ONE, Reply(parts=[b" "] * 100, pause=0.1)))
    connected = api.connect(tmp_path, seconds=1)
    started = time.monotonic()
    with pytest.raises(ClusterProblem) as raised:
        connected.get("v1", "ConfigMap", "one", "n")
    assert raised.value.reason == "timeout"
    assert time.monotonic() - started < 3


def test_a_redirect_is_not_followed_with_the_token(start: Start, tmp_path: Path) -> None:
    other = start(lambda request: Reply(body=MAP))
    api = start(_script(ONE, Reply(302, "", {"Location": f"http://127.0.0.1:{other.port}/stolen"})))
    with pytest.raises(ClusterProblem):
        api.connect(tmp_path).get("v1", "ConfigMap", "one", "n")
    assert other.requests == []


def test_what_is_no_api_server_is_said_to_be_none(start: Start, tmp_path: Path) -> None:
    with pytest.raises(ClusterProblem, match="something that is not a Kubernetes API server"):
        start(lambda request: Reply(body="<html>It works!</html>")).connect(tmp_path)
    with pytest.raises(ClusterProblem, match="is not Kubernetes API server"):
        start(lambda request: Reply(body={"hello": "world"})).connect(tmp_path)


def test_a_proxy_s_page_is_shown_as_text(start: Start, tmp_path: Path) -> None:
    api = start(_script(ONE, Reply(407, "<html><h1>Proxy login</h1><p>needed</p></html>")))
    with pytest.raises(ClusterProblem, match="Proxy login needed"):
        api.connect(tmp_path).get("v1", "ConfigMap", "one", "n")


def test_names_are_quoted_in_addresses(start: Start, tmp_path: Path) -> None:
    api = start(lambda request: None)
    assert api.connect(tmp_path).get("v1", "ConfigMap", "../secrets?x=1", "n/../m") is None
    assert api.requests[-1].path == "/api/v1/namespaces/n%2F..%2Fm/configmaps/..%2Fsecrets%3Fx%3D1"


def test_the_token_is_sent_and_the_cache_of_the_client_is_not_used(start: Start, tmp_path: Path) -> None:
    api = start(lambda request: None)
    connected = api.connect(tmp_path)
    assert connected.find("v1", "Nothing") == []
    assert {one.headers.get("Authorization") for one in api.requests} == {"Bearer a-token"}
    assert all(not one.path.startswith("/apis") for one in api.requests)


def test_without_aggregated_discovery_group_versions_are_asked(start: Start, tmp_path: Path) -> None:
    def old(request: Request) -> Any:
        if request.path == "/api":
            return Reply(body={"kind": "APIVersions", "versions": ["v1"]})
        if request.path == "/apis":
            groups = [
                {"name": "apps", "versions": [{"groupVersion": "apps/v1"}]},
                {"name": "broken", "versions": [{"groupVersion": "broken/v1"}]},
            ]
            return Reply(body={"kind": "APIGroupList", "groups": groups})
        if request.path == "/apis/apps/v1":
            resources = [
                {"name": "deployments", "kind": "Deployment", "namespaced": True},
                {"name": "deployments/scale", "kind": "Scale", "namespaced": True},
            ]
            return Reply(body={"resources": resources})
        if request.path == "/apis/broken/v1":
            return Reply(503, "service unavailable")
        return None

    found = start(old).connect(tmp_path).api_versions()
    assert found == ("apps/v1", "apps/v1/Deployment", "v1", "v1/ConfigMap", "v1/Pod", "v1/Secret")


def test_a_page_that_is_too_old_is_read_again_in_one_go(start: Start, tmp_path: Path) -> None:
    def pages(request: Request) -> Any:
        if request.path != MAPS:
            return None
        if request.query.get("continue") == "old":
            return Reply(410, refusal(410, "Expired", "too old"))
        if "limit" in request.query:
            return Reply(body={"metadata": {"continue": "old"}, "items": [{"metadata": {"name": "a"}}]})
        items = [{"metadata": {"name": name}} for name in "ab"]
        return Reply(body={"metadata": {"resourceVersion": "9"}, "items": items})

    found = start(pages).connect(tmp_path).find("v1", "ConfigMap", "n")
    assert [one["metadata"]["name"] for one in found] == ["a", "b"]
    assert found[0]["kind"] == "ConfigMap"
