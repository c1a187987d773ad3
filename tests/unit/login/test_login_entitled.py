"""What a user has: profiles, sizes, Dask. The most generous rule counts, quantity by quantity."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidehub.login.entitled import EVERYBODY, Entitled, entitled, is_restricted, largest_servers
from tidehub.site.model import Site
from tidehub.site.reading.load import load_text

GIB = 2**30
VO = "urn:mace:egi.eu:group:vo.example.eu"
TEXT = f"""
site: {{name: Testing}}
login:
  provider: demo
  allow: {{everyone: true}}
  groups:
    - group: {VO}:role=power
      profiles: [large, GPU lab]
      notebooks: {{memory: {{guarantee: 2 GiB, limit: 8 GiB}}}}
      dask:
        enabled: true
        worker: {{cores: {{max: 4}}, memory: {{max: 8 GiB}}}}
        cluster: {{max_workers: 10, max_cores: 20, max_memory: 40 GiB}}
        per_user: {{max_clusters: 3, max_cores: 30}}
    - group: {VO}:students:*
      notebooks: {{memory: {{limit: 6 GiB}}, cpu: {{guarantee: 1, limit: 4}}}}
    - group: {VO}:*:role=dask
      dask: {{enabled: true, cluster: {{max_workers: 20}}, per_user: {{max_memory: 1 TiB}}}}
notebooks:
  cpu: {{guarantee: 0.5, limit: 2}}
  memory: {{guarantee: 1 GiB, limit: 4 GiB}}
  profiles:
    - {{name: Main, default: true}}
    - {{name: Large, memory: {{guarantee: 4 GiB, limit: 16 GiB}}}}
    - {{name: GPU lab, allow: {{users: [Gina], groups: ["{VO}:gpu"]}}}}
dask:
  access: groups
  worker: {{memory: {{min: 1 GiB, max: 2 GiB, default: 1 GiB}}}}
  cluster: {{max_workers: 4, max_cores: 8, max_memory: 16 GiB}}
  per_user: {{max_clusters: 1, max_cores: 10}}
"""


@pytest.fixture(scope="module")
def site() -> Site:
    return load_text(TEXT, "tidehub.yaml").site


def slugs(user: Entitled) -> list[str]:
    return [server.profile.slug for server in user.servers]


def test_who_holds_nothing_has_what_everybody_has(site: Site) -> None:
    user = entitled(site, "ann", [])
    assert slugs(user) == ["main"]
    assert user.servers[0].by == EVERYBODY
    assert (user.dask, user.dask_by, user.grants) == (None, "", ())
    assert user.default is user.servers[0]


@pytest.mark.parametrize(
    ("name", "groups", "profiles", "by"),
    [
        ("ann", [f"{VO}:role=power"], ["main", "large", "gpu-lab"], "login.groups[0].profiles"),
        ("ann", [f"{VO}:gpu:role=member"], ["main", "gpu-lab"], "notebooks.profiles[2].allow.groups"),
        ("gina", [], ["main", "gpu-lab"], "notebooks.profiles[2].allow.users"),
        ("ann", [f"{VO}:role=Power"], ["main"], EVERYBODY),
        ("ann", [f"{VO}:sub:role=power"], ["main"], EVERYBODY),
        ("ann", [f"{VO}.evil.org:role=power"], ["main"], EVERYBODY),
        ("ann", ["urn:mace:evil.eu:group:vo.example.eu:role=power"], ["main"], EVERYBODY),
        ("ann", [f"{VO}:gpux"], ["main"], EVERYBODY),
        ("ann", ["gpu", "power", "", "admin", f"{VO}:role="], ["main"], EVERYBODY),
        ("", [], ["main"], EVERYBODY),
    ],
)
def test_profiles(site: Site, name: str, groups: list[str], profiles: list[str], by: str) -> None:
    user = entitled(site, name, groups)
    assert slugs(user) == profiles
    assert user.servers[-1].by == by


def test_sizes_are_raised_never_lowered(site: Site) -> None:
    power = entitled(site, "ann", [f"{VO}:role=power"])
    main, large = power.server("main"), power.server("large")
    assert main is not None and large is not None
    assert (main.memory.guarantee, main.memory.limit) == (2 * GIB, 8 * GIB)
    assert (large.memory.guarantee, large.memory.limit) == (4 * GIB, 16 * GIB)
    assert (main.cpu.guarantee, main.cpu.limit) == (0.5, 2)
    assert power.server("none-such") is None


def test_of_two_rules_each_quantity_has_its_largest(site: Site) -> None:
    both = entitled(site, "ann", [f"{VO}:students:math:role=member", f"{VO}:role=power"])
    main = both.server("main")
    assert main is not None
    assert (main.memory.guarantee, main.memory.limit) == (2 * GIB, 8 * GIB)
    assert (main.cpu.guarantee, main.cpu.limit) == (1, 4)
    given = {grant.key: (grant.value, grant.by) for grant in both.grants}
    assert given["notebooks.memory.limit"] == ("8 GiB", "login.groups[0]")
    assert given["notebooks.cpu.limit"] == ("4 cores", "login.groups[1]")


def test_dask_for_groups_alone_with_their_limits(site: Site) -> None:
    power = entitled(site, "ann", [f"{VO}:role=power"])
    assert power.dask is not None
    assert power.dask_by == "login.groups[0].dask.enabled"
    assert power.dask.worker.cores.as_tuple() == (1, 4, 1)
    assert power.dask.worker.memory.as_tuple() == (GIB, 8 * GIB, GIB)
    assert (power.dask.cluster.max_workers, power.dask.cluster.max_cores) == (10, 20)
    assert (power.dask.per_user.max_clusters, power.dask.per_user.max_cores) == (3, 30)
    assert power.dask.scheduler == site.dask.scheduler
    assert entitled(site, "ann", [f"{VO}:students"]).dask is None


def test_dask_rules_join_and_no_limit_stays_the_largest(site: Site) -> None:
    both = entitled(site, "ann", [f"{VO}:role=power", f"{VO}:students:role=dask"]).dask
    assert both is not None
    assert (both.cluster.max_workers, both.cluster.max_cores) == (20, 20)
    # Nobody's memory is limited in all, so 1 TiB would be less.
    assert both.per_user.max_memory is None


def test_without_access_by_groups_everybody_has_dask(site: Site) -> None:
    free = site.model_copy(update={"dask": site.dask.model_copy(update={"access": "everyone"})})
    user = entitled(free, "ann", [])
    assert (user.dask, user.dask_by) == (free.dask, EVERYBODY)
    none = site.model_copy(update={"dask": site.dask.model_copy(update={"engine": "none"})})
    assert entitled(none, "ann", [f"{VO}:role=power"]).dask is None


def test_the_preselected_profile_is_one_that_the_user_may_start(site: Site) -> None:
    profiles = site.notebooks.profiles
    turned = (
        profiles[0].model_copy(update={"default": False}),
        profiles[1].model_copy(update={"default": True}),
        profiles[2],
    )
    other = site.model_copy(update={"notebooks": site.notebooks.model_copy(update={"profiles": turned})})
    for groups, slug in (([], "main"), ([f"{VO}:role=power"], "large")):
        default = entitled(other, "ann", groups).default
        assert default is not None and default.profile.slug == slug
    assert [is_restricted(other, profile) for profile in turned] == [False, True, True]


def test_the_largest_servers_are_what_somebody_could_have(site: Site) -> None:
    sizes = {server.profile.slug: server.memory.guarantee for server in largest_servers(site)}
    assert sizes == {"main": 2 * GIB, "large": 4 * GIB, "gpu-lab": 2 * GIB}


GROUPS = st.lists(
    st.sampled_from(
        [
            f"{VO}:role=power",
            f"{VO}:students",
            f"{VO}:a:role=dask",
            f"{VO}:gpu",
            "nonsense",
            f"{VO}x:role=power",
        ]
    )
    | st.text(max_size=20),
    max_size=5,
)


def amounts(user: Entitled) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for server in user.servers:
        found |= {f"{server.profile.slug} {name}": value for name, value in server.memory}
        found |= {f"{server.profile.slug} cpu {name}": value for name, value in server.cpu}
    if user.dask is not None:
        found |= {f"cluster {name}": value for name, value in user.dask.cluster}
    return found


@given(GROUPS, GROUPS)
def test_more_memberships_never_give_less(fewer: list[str], more: list[str]) -> None:
    site = load_text(TEXT, "tidehub.yaml").site
    less, all_of_them = entitled(site, "ann", fewer), entitled(site, "ann", fewer + more)
    assert set(slugs(less)) <= set(slugs(all_of_them))
    for key, amount in amounts(less).items():
        assert amounts(all_of_them)[key] >= amount
    for server in all_of_them.servers:
        assert server.memory.guarantee <= server.memory.limit
        assert server.cpu.guarantee <= server.cpu.limit
