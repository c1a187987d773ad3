from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from tidehub.cli.main import run as tidehub
from tidehub.errors import TidehubError
from tidehub.kubernetes.cluster.port import ClusterProblem
from tidehub.kubernetes.preflight import identity, run
from tidehub.kubernetes.preflight.edges.network import Network, NoAnswer
from tidehub.kubernetes.preflight.model import Context, Finding, Look, NotKnown, NotRendered, Skip
from tidehub.site.reading.load import load_preset


class NoNetwork(Network):
    """Nothing is reached."""

    def open(self, url: str, headers: Any = None, *, follow: bool = True) -> Any:
        raise NoAnswer("nothing is reached in this test")

    def addresses(self, name: str) -> tuple[str, ...]:
        return ()


def _context(**changes: Any) -> Context:
    return Context(**{"site": load_preset("protocoast").site, "network": NoNetwork(), **changes})


def _items(monkeypatch: pytest.MonkeyPatch, *checks: Any) -> None:
    monkeypatch.setattr(run, "ITEMS", tuple(("Group", f"item-{n}", check) for n, check in enumerate(checks)))


def _raising(error: Exception) -> Any:
    def check(context: Context) -> Finding:
        raise error

    return check


@pytest.mark.parametrize(
    ("error", "what", "fix"),
    [
        (NotKnown("nobody knows", "ask"), "nobody knows", "ask"),
        (
            ClusterProblem("no right", reason="forbidden"),
            "your credentials may not read this",
            "ask for the permission to read it",
        ),
        (ClusterProblem("gone", reason="unreachable", fix="wait"), "gone", "wait"),
        (TidehubError("broken", fix="mend it"), "broken", "mend it"),
    ],
)
def test_what_cannot_be_answered_is_unknown(
    monkeypatch: pytest.MonkeyPatch, error: Exception, what: str, fix: str
) -> None:
    _items(monkeypatch, _raising(error))
    (found,) = run.preflight(_context())
    assert (found.state, found.what, found.group) == ("unknown", what, "Group")
    assert fix in found.fix


def test_what_does_not_arise_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    _items(monkeypatch, _raising(Skip()), lambda context: Finding("b", "ok", "well"))
    assert [one.item for one in run.preflight(_context())] == ["b"]


def test_a_fault_of_our_own_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    _items(monkeypatch, _raising(KeyError("bug")))
    with pytest.raises(KeyError):
        run.preflight(_context())


def test_items_that_need_the_rendering_say_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = NotRendered("needs it")
    _items(monkeypatch, _raising(lacking), _raising(lacking), lambda context: Finding("c", "ok", "well"))
    findings = run.preflight(_context())
    assert [(one.item, one.state) for one in findings] == [("rendering", "unknown"), ("c", "ok")]
    assert findings[0].evidence == ("item-0, item-1",)


def test_one_slow_item_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def slow(context: Context) -> Finding:
        release.wait(30)
        return Finding("slow", "ok", "well")

    _items(monkeypatch, slow, lambda context: Finding("quick", "ok", "well"))
    try:
        findings = run.preflight(_context(), seconds=0.3)
    finally:
        release.set()
    assert [(one.item, one.state) for one in findings] == [("item-0", "unknown"), ("quick", "ok")]
    assert "no answer within" in findings[0].what


def test_a_question_is_asked_once_however_many_want_to_know() -> None:
    asked: list[str] = []
    inside = threading.Barrier(4)

    class Counting:
        def find(self, api_version: str, kind: str, namespace: str | None = None) -> list[Any]:
            asked.append(kind)
            return [kind]

        def get(self, *_: Any) -> Any:
            raise ClusterProblem("no", reason="forbidden")

    look = Look(Counting())  # type: ignore[arg-type]

    def ask() -> None:
        inside.wait(10)
        assert look.all("v1", "Node") == ["Node"]

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asked == ["Node"]
    for _ in range(2):
        with pytest.raises(ClusterProblem):
            look.one("v1", "Node", "n")


def test_without_a_cluster_the_rest_is_looked_at() -> None:
    trouble = ClusterProblem("no kubeconfig", reason="other", fix="get one")
    findings = {one.item: one for one in run.preflight(_context(troubles={"connection": trouble}))}
    assert (findings["connection"].state, findings["connection"].fix) == ("problem", "get one")
    assert {"helm", "callback-url", "identity-provider", "dns"} <= set(findings)
    assert "nodes" not in findings


def test_addresses_without_https_are_no_callback() -> None:
    site = load_preset("protocoast").site
    plain = site.model_copy(update={"site": site.site.model_copy(update={"url": "http://hub.example.org"})})
    (found,) = identity.callback_url(_context(site=plain))
    assert (found.item, found.state) == ("callback-url", "problem")
    assert "is not https" in found.what


def test_a_registered_address_that_is_another_one() -> None:
    site = load_preset("protocoast").site
    login = site.login.model_copy(update={"callback_url": "https://old.example.org/hub/oauth_callback"})
    (found,) = identity.callback_url(_context(site=site.model_copy(update={"login": login})))
    assert found.state == "problem"
    assert "the registered redirect address is https://old.example.org/hub/oauth_callback" in found.what


# -- the command


def test_the_command_without_anything_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tidehub.yaml").write_text("preset: protocoast\n")
    (tmp_path / "charts").mkdir()
    for name, value in {
        "HOME": str(tmp_path),
        "KUBECONFIG": "",
        "PATH": "/nowhere",
        "XDG_CACHE_HOME": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(run, "ITEMS", tuple(one for one in run.ITEMS if one[0] in ("Cluster", "Permissions")))
    code = tidehub(["preflight", "--json", "--offline", "--charts", str(tmp_path / "charts")])
    told = json.loads(capsys.readouterr().out)
    assert code == 1
    assert (told["ready"], told["cluster"], told["namespace"]) == (False, None, "daskhub")
    found = {one["item"]: one for one in told["findings"]}
    assert found["connection"]["what"] == "no kubeconfig was found"
    assert found["helm"]["state"] == "problem"


def test_a_site_without_a_cluster_is_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tidehub.yaml").write_text("preset: laptop\n")
    assert tidehub(["preflight"]) == 2
    assert "this site has no Kubernetes part" in capsys.readouterr().err
