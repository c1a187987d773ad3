"""The gateway's decisions that need no process: options in words, totals, orphans, command lines, logs, headers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tornado.httputil import HTTPHeaders

from tidehub.gateway import totals
from tidehub.gateway.choices import NoClusters, SiteOptions, cluster_options
from tidehub.gateway.dashboards import pages
from tidehub.gateway.dashboards.forwarding import passed_on
from tidehub.gateway.dashboards.protocol import KEY_HEADER, dashboard_key, derived
from tidehub.gateway.reaper import Orphans, in_use
from tidehub.local.gateway import processes, workdirs
from tidehub.local.gateway.config import GUARD, NOTICES, TLS_ERRORS
from tidehub.local.isolation import Ending
from tidehub.site.model import Site
from tidehub.site.reading.load import load_text

MIB, GIB = 1 << 20, 1 << 30

SITE = """
site: {name: Testing}
login: {provider: demo, allow: {everyone: true}}
notebooks:
  profiles: [{name: Main, default: true, image: "quay.io/x/main:1"}, {name: Next, image: "quay.io/x/next:1"}]
dask:
  worker:
    cores: {min: 1, max: 2, default: 1}
    memory: {min: 1 GiB, max: 6 GiB, default: 4 GiB}
  scheduler: {cores: 1, memory: 1 GiB}
  cluster: {max_workers: 3, max_cores: 5, max_memory: 24 GiB}
  per_user: {max_clusters: 2, max_cores: 7, max_memory: 20 GiB}
"""


@pytest.fixture
def site() -> Site:
    return load_text(SITE, "tidehub.yaml").site


@dataclass
class FakeUser:
    name: str = "ann"
    groups: list[str] = field(default_factory=list)


WaitUntil = Callable[[Callable[[], bool]], None]


def choices(site: Site, *groups: str) -> SiteOptions:
    return cluster_options(site)(FakeUser(groups=list(groups)))


# --- options --------------------------------------------------------------------------------------------


def test_the_widget_gets_the_sites_ranges_and_profiles(site: Site) -> None:
    spec = {field["field"]: field for field in choices(site).get_specification()}
    assert spec["worker_cores"]["spec"] == {"type": "int", "min": 1, "max": 2}
    assert spec["worker_memory"]["spec"] == {"type": "float", "min": 1.0, "max": 6.0}
    assert spec["worker_memory"]["label"] == "Worker memory (GiB)"
    assert spec["profile"]["spec"]["options"] == ["main", "next"]
    assert spec["profile"]["default"] == "main"


def test_choices_become_traits_in_bytes(site: Site) -> None:
    options = choices(site)
    chosen = options.parse_options({"worker_cores": 2, "worker_memory": 6, "profile": "next"})
    config = options.get_configuration(chosen, FakeUser(groups=["g"]))
    assert config["groups"] == ["g"]
    assert (config["worker_cores"], config["worker_memory"], config["profile"]) == (2, 6 * GIB, "next")
    assert config["cluster_max_memory"] == 24 * GIB
    assert config["idle_timeout"] == 1200.0


def test_an_image_stands_for_the_profile_that_has_it(site: Site) -> None:
    assert choices(site).parse_options({"image": "quay.io/x/next:1"})["profile"] == "next"


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"worker_cores": 3}, "this site allows 1 to 2 cores"),
        ({"worker_memory": 0.5}, "this site allows 1 GiB to 6 GiB"),
        ({"image": "quay.io/x/other:1"}, "Choose profile: main, next"),
        ({"profile": "gone"}, "profile 'gone' does not exist; you may choose: main, next"),
        ({"colour": "red"}, "cluster option colour does not exist"),
    ],
)
def test_wrong_choices_are_refused_in_words(site: Site, request_: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        choices(site).parse_options(request_)
    assert words in str(error.value)


VO = "urn:mace:egi.eu:group:vo.example.eu"
FOR_GROUPS = f"""
login:
  provider: demo
  allow: {{everyone: true}}
  groups:
    - group: {VO}:role=power
      profiles: [next]
      dask: {{enabled: true, worker: {{cores: {{max: 4}}}}, cluster: {{max_cores: 12}}, per_user: {{max_clusters: 5}}}}
    - group: {VO}:role=dask
      dask: {{enabled: true}}
"""


@pytest.fixture
def site_for_groups() -> Site:
    text = SITE.replace("login: {provider: demo, allow: {everyone: true}}", FOR_GROUPS)
    return load_text(
        text.replace("dask:\n  worker", "dask:\n  access: groups\n  worker"), "tidehub.yaml"
    ).site


def test_a_group_has_its_own_choices_and_limits(site_for_groups: Site) -> None:
    power = choices(site_for_groups, f"{VO}:role=power")
    chosen = power.parse_options({"worker_cores": 4, "profile": "next"})
    config = power.get_configuration(chosen, FakeUser(groups=[f"{VO}:role=power"]))
    assert (config["worker_cores"], config["cluster_max_cores"]) == (4, 12.0)
    plain = choices(site_for_groups, f"{VO}:role=dask")
    spec = {one["field"]: one["spec"] for one in plain.get_specification()}
    assert spec["profile"]["options"] == ["main"]
    assert spec["worker_cores"]["max"] == 2
    with pytest.raises(ValueError, match="this site allows 1 to 2 cores"):
        plain.parse_options({"worker_cores": 4})
    with pytest.raises(ValueError, match=r"profile 'next' does not exist; you may choose: main$"):
        plain.parse_options({"profile": "next"})
    with pytest.raises(ValueError, match=r"Choose profile: main$"):
        plain.parse_options({"image": "quay.io/x/next:1"})


@pytest.mark.parametrize("groups", [[], [VO], [f"{VO}:role=Power"], ["power"], [f"{VO}.evil:role=power"]])
def test_who_may_start_no_clusters_is_told_so(site_for_groups: Site, groups: list[str]) -> None:
    with pytest.raises(NoClusters) as refused:
        choices(site_for_groups, *groups)
    assert refused.value.status == 403
    assert (
        str(refused.value) == refused.value.reason == "Dask clusters are not open to your account at Testing."
    )


# --- totals ---------------------------------------------------------------------------------------------


@dataclass(eq=False)
class FakeWorker:
    cluster: Any
    holds: bool = True


@dataclass(eq=False)
class FakeCluster:
    worker_cores: int = 1
    worker_memory: int = 4 * GIB
    workers: list[FakeWorker] = field(default_factory=list)

    @property
    def config(self) -> dict[str, Any]:
        return {
            "scheduler_cores": 1,
            "scheduler_memory": GIB,
            "worker_cores": self.worker_cores,
            "worker_memory": self.worker_memory,
        }

    def active_workers(self) -> list[FakeWorker]:
        return self.workers

    def grow(self, count: int, *, holds: bool = True) -> FakeCluster:
        self.workers += [FakeWorker(self, holds) for _ in range(count)]
        return self


def test_a_third_cluster_is_refused_with_the_limit(site: Site) -> None:
    refused = totals.refused_cluster(site.dask, [FakeCluster(), FakeCluster()], {})
    assert refused is not None
    assert "dask.per_user.max_clusters" in refused
    assert totals.refused_cluster(site.dask, [FakeCluster()], {}) is None


def test_a_worker_counts_only_when_it_holds_memory(site: Site) -> None:
    cluster = FakeCluster().grow(4, holds=True)
    late = FakeWorker(cluster, holds=False)
    cluster.workers.append(late)
    assert totals.refused_worker(site.dask, [cluster], late, lambda w: w.holds) is not None
    cluster.workers[0].holds = False
    assert totals.refused_worker(site.dask, [cluster], late, lambda w: w.holds) is None


def test_scaling_is_bound_by_what_the_other_clusters_leave(site: Site) -> None:
    first, second = FakeCluster().grow(3), FakeCluster()
    alone = totals.most_workers(site.dask, [second], second)
    assert (alone.workers, alone.bound_by) == (3, "dask.cluster.max_workers")
    beside = totals.most_workers(site.dask, [first, second], second)
    assert (beside.workers, beside.bound_by) == (1, "dask.per_user.max_memory")
    words = totals.limit_words(site.dask, beside)
    assert "dask.per_user.max_memory: 20 GiB for all clusters of one user together" in words
    assert "a worker of yours has 1 core and 4 GiB" in words


# --- orphans --------------------------------------------------------------------------------------------


BOTH = {"a1": "ada", "b1": "bob"}


def test_clusters_end_after_the_grace_without_a_server() -> None:
    orphans = Orphans(grace=60)
    assert orphans.due(BOTH, ["bob"], (), now=0) == set()
    assert orphans.due(BOTH, ["bob"], (), now=59) == set()
    assert orphans.due(BOTH, ["bob"], (), now=60) == {"a1"}


def test_coming_back_begins_the_grace_again() -> None:
    orphans = Orphans(grace=60)
    orphans.due({"a1": "ada"}, [], (), now=0)
    orphans.due({"a1": "ada"}, ["ada"], (), now=50)
    assert orphans.due({"a1": "ada"}, [], (), now=109) == set()
    assert orphans.due({"a1": "ada"}, [], (), now=110) == {"a1"}


def test_a_new_cluster_has_a_grace_of_its_own() -> None:
    """Of somebody who has been without a server for long, beside an older cluster of theirs that ends."""
    orphans = Orphans(grace=60)
    orphans.due({"old": "ada"}, [], (), now=0)
    assert orphans.due({"old": "ada", "new": "ada"}, [], (), now=60) == {"old"}
    assert orphans.due({"new": "ada"}, [], (), now=119) == set()
    assert orphans.due({"new": "ada"}, [], (), now=120) == {"new"}


def test_a_cluster_that_is_used_lives_and_its_grace_begins_with_the_last_sign() -> None:
    orphans = Orphans(grace=60)
    clusters = {"used": "ada", "idle": "ada"}
    for now in range(0, 600, 50):
        due = orphans.due(clusters, [], {"used"}, now=now)
        assert due == ({"idle"} if now >= 60 else set())
    assert orphans.due(clusters, [], (), now=609) == {"idle"}
    assert orphans.due(clusters, [], (), now=610) == {"idle", "used"}


def test_a_gateway_that_is_new_ends_nothing_at_once() -> None:
    assert Orphans(grace=60).due(BOTH, [], (), now=1e9) == set()


def test_a_hub_that_cannot_be_asked_ends_nothing_and_begins_the_grace_again() -> None:
    orphans = Orphans(grace=60)
    orphans.due({"a1": "ada"}, [], (), now=0)
    assert orphans.due({"a1": "ada"}, None, (), now=100) == set()
    assert orphans.due({"a1": "ada"}, [], (), now=101) == set()
    assert orphans.due({"a1": "ada"}, [], (), now=160) == {"a1"}


def test_no_grace_ends_at_the_first_look_what_is_not_used() -> None:
    assert Orphans(grace=0).due(BOTH, ["bob"], (), now=5) == {"a1"}
    assert Orphans(grace=0).due(BOTH, ["bob"], {"a1"}, now=5) == set()


def test_only_clusters_without_a_server_are_asked() -> None:
    orphans = Orphans(grace=60)
    assert orphans.alone(BOTH, ["bob"]) == {"a1"}
    assert orphans.alone(BOTH, None) == set()


@pytest.mark.parametrize(
    ("counts", "used"),
    [
        ({}, False),
        ({"clients": 1, "processing": 0, "tasks": 7, "memory": 7, "workers": 2, "desired_workers": 2}, False),
        ({"clients": 2}, True),
        ({"clients": 1, "processing": 3}, True),
        ({"clients": 1, "waiting": 3}, True),
        ({"clients": 1, "unrunnable": 1}, True),
        ({"clients": 1, "workers": 0, "desired_workers": 1}, True),
        ({"clients": "many", "processing": [1]}, False),
        ([], False),
        (None, False),
    ],
)
def test_what_a_scheduler_says_of_its_use(counts: Any, used: bool) -> None:
    assert in_use(counts) is used


# --- processes ------------------------------------------------------------------------------------------


def test_our_preloads_come_before_the_one_with_arguments(tmp_path: Path) -> None:
    upstream = ["dask", "scheduler", "--preload", "dask_gateway.scheduler_preload", "--dg-api-address", "x:0"]
    command = processes.preloaded(upstream, tmp_path, scheduler=True)
    assert command == [
        *upstream[:2],
        *(word for file in (TLS_ERRORS, GUARD, NOTICES) for word in ("--preload", str(tmp_path / file.name))),
        *upstream[2:],
    ]
    worker = processes.preloaded(["dask", "worker", "tls://x:1"], tmp_path, scheduler=False)
    assert worker[-4::2] == ["--preload", "--preload"]
    assert worker[-3::2] == [str(tmp_path / TLS_ERRORS.name), str(tmp_path / GUARD.name)]
    assert not any(NOTICES.name in word for word in worker)


def test_the_nanny_ends_a_worker_before_the_kernel_does() -> None:
    assert processes.terminate_fraction(32 * GIB) == 0.95
    one_gib = processes.terminate_fraction(GIB)
    assert one_gib * GIB + processes.NANNY_MEMORY <= GIB * 1.001
    assert processes.terminate_fraction(256 * MIB) == 0.82


def test_an_ending_by_memory_names_limit_and_remedy() -> None:
    ending = Ending(out_of_memory=True, limit=GIB)
    assert processes.ending_words("A Dask worker", ending, 0) == (
        "A Dask worker was stopped because it used more than its memory limit of 1 GiB. "
        "Choose a larger worker_memory, or smaller chunks."
    )
    assert "fewer tasks" in processes.ending_words("The scheduler of this cluster", ending, 0)
    assert (
        processes.ending_words("A Dask worker", Ending(code=3), 0) == "A Dask worker ended with exit code 3."
    )


def test_each_cluster_has_its_own_key() -> None:
    assert dashboard_key("s", "a") != dashboard_key("s", "b")
    assert dashboard_key("s", "a") != dashboard_key("t", "a")
    assert derived("s", "cookies") != derived("s", "dashboard keys")
    assert f'"{KEY_HEADER}"' in GUARD.read_text()


# --- directories ----------------------------------------------------------------------------------------


def test_only_directories_of_clusters_are_removed(tmp_path: Path, wait_until: WaitUntil) -> None:
    clusters, other = tmp_path / "clusters", tmp_path / "other"
    for path in (clusters / "a", clusters / "b", other):
        path.mkdir(parents=True)
    workdirs.remove_workdir(clusters, other)
    (clusters / "link").symlink_to(other)
    workdirs.remove_workdir(clusters, clusters / "link")
    assert other.is_dir() and not (clusters / "link").is_symlink()
    assert workdirs.remove_strays(clusters, {"a"}) == ["b"]
    workdirs.remove_workdir(clusters, clusters / ".trash")
    assert sorted(entry.name for entry in clusters.iterdir()) == [".trash", "a"]
    wait_until(lambda: not any((clusters / ".trash").iterdir()))
    assert other.is_dir()


# --- the gate -------------------------------------------------------------------------------------------


def test_hop_by_hop_headers_stay_here() -> None:
    headers = HTTPHeaders()
    for name, value in (
        *(("Connection", "close, X-Named"), ("X-Named", "1"), ("Host", "hub"), ("Cookie", "a=1")),
        *(("Accept", "x"), ("X-Twice", "1"), ("X-Twice", "2"), ("Transfer-Encoding", "chunked")),
    ):
        headers.add(name, value)
    kept = passed_on(headers, without=frozenset({"cookie"}))
    assert sorted(kept.items()) == [("Accept", "x"), ("X-Twice", "1"), ("X-Twice", "2")]


def test_pages_escape_what_comes_from_outside() -> None:
    cluster = {
        "name": "<b>",
        "status": "pending",
        "profile": "<i>",
        "reason": "<script>",
        "workers": {"running": 0, "wanted": 1, "waiting": [{"reason": "<u>"}]},
    }
    page = pages.clusters("<Site>", "/", "/services/dask-gateway", [cluster])
    for bad in ("<b>", "<i>", "<script>", "<u>", "<Site>"):
        assert bad not in page
    assert "&lt;script&gt;" in page


def test_a_refusal_names_the_site_the_way_back_and_whom_to_ask() -> None:
    page = pages.refusal("<Site>", "/base/", 403, "not yours", "help@<example>.org")
    assert "<title>Not allowed – &lt;Site&gt;</title>" in page
    assert "Questions: help@&lt;example&gt;.org" in page and 'href="/base/hub/home"' in page
    assert "Questions" not in pages.refusal("Site", "/", 403, "not yours")
