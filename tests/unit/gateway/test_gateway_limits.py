"""The limits and options against the real dask-gateway classes that enforce them."""

from __future__ import annotations

from typing import Any

import pytest
from dask_gateway_server.backends.base import ClusterConfig
from dask_gateway_server.options import Float, Integer, Options
from gateway_inputs import OVER_TOTALS, REFUSED
from hypothesis import given
from hypothesis import strategies as st

from tidehub.gateway.limits import (
    LimitExceeded,
    Usage,
    check_user,
    cluster_config,
    effective,
    new_cluster,
    new_workers,
    workers_of,
)
from tidehub.gateway.options import fields, to_config
from tidehub.site.model.dask import Choice, Cluster, Dask, Image, PerUser, Scheduler, Worker

GIB = 2**30


def dask(
    *,
    cluster: Cluster | None = None,
    cores: tuple[float, float, float] = (1, 2, 1),
    memory: tuple[int, int, int] = (4 * GIB, 6 * GIB, 4 * GIB),
    **rest: Any,
) -> Dask:
    """ProtoCoast's clusters: three workers, four cores, 24 GiB, a scheduler of 1 core and 2 GiB."""
    return Dask(
        worker=Worker(
            cores=Choice(min=cores[0], max=cores[1], default=cores[2]),
            memory=Choice(min=memory[0], max=memory[1], default=memory[2]),
        ),
        scheduler=rest.pop("scheduler", Scheduler(cores=1, memory=2 * GIB)),
        cluster=cluster or Cluster(max_workers=3, max_cores=4, max_memory=24 * GIB),
        **rest,
    )


def real_workers(site: Dask, cores: float, memory: int) -> int:
    config = {**cluster_config(site), "worker_cores": int(cores), "worker_memory": memory}
    return int(ClusterConfig(**config).cluster_max_workers)


@pytest.mark.parametrize(
    ("max_memory", "cores", "memory", "workers", "bound_by"),
    [
        (16 * GIB, 1, 4 * GIB, 3, "dask.cluster.max_workers"),
        (24 * GIB, 1, 4 * GIB, 3, "dask.cluster.max_workers"),
        (16 * GIB, 1, 6 * GIB, 2, "dask.cluster.max_memory"),
        (24 * GIB, 1, 6 * GIB, 3, "dask.cluster.max_workers"),
        (16 * GIB, 2, 4 * GIB, 1, "dask.cluster.max_cores"),
        (16 * GIB, 2, 6 * GIB, 1, "dask.cluster.max_cores"),
        (24 * GIB, 2, 4 * GIB, 1, "dask.cluster.max_cores"),
        (24 * GIB, 2, 6 * GIB, 1, "dask.cluster.max_cores"),
    ],
)
def test_the_protocoast_table(max_memory: int, cores: int, memory: int, workers: int, bound_by: str) -> None:
    site = dask(cluster=Cluster(max_workers=3, max_cores=4, max_memory=max_memory))
    row = workers_of(site, cores, memory)
    assert (row.workers, row.bound_by) == (workers, bound_by)
    assert real_workers(site, cores, memory) == workers


@given(
    st.integers(1, 12),
    st.integers(1, 40),
    st.integers(1, 64),
    st.integers(1, 8),
    st.integers(1, 32),
    st.integers(1, 6),
    st.integers(1, 16),
)
def test_ours_is_the_gateways_own_arithmetic(
    most: int,
    max_cores: int,
    max_memory: int,
    cores: int,
    memory: int,
    scheduler_cores: int,
    scheduler_memory: int,
) -> None:
    site = dask(
        cluster=Cluster(
            max_workers=most,
            max_cores=max(max_cores, scheduler_cores),
            max_memory=max(max_memory, scheduler_memory) * GIB // 2,
        ),
        scheduler=Scheduler(cores=scheduler_cores, memory=scheduler_memory * GIB // 2),
    )
    ours = workers_of(site, cores, memory * GIB // 2).workers
    assert ours == real_workers(site, cores, memory * GIB // 2)


def test_the_table_has_every_choice() -> None:
    rows = effective(dask())
    assert [(row.cores, row.memory // GIB) for row in rows] == [(1, 4), (1, 6), (2, 4), (2, 6)]
    wide = effective(dask(cores=(1, 64, 3)))
    assert {row.cores for row in wide} == {1, 2, 3, 4, 8, 16, 32, 64}


def test_a_users_total_binds_too() -> None:
    site = dask(per_user=PerUser(max_clusters=1, max_cores=3))
    row = workers_of(site, 1, 4 * GIB)
    assert (row.workers, row.bound_by) == (2, "dask.per_user.max_cores")


def test_the_gateway_takes_the_configuration() -> None:
    config = ClusterConfig(**cluster_config(dask()))
    assert config.cluster_max_memory == 25_769_803_776
    assert config.idle_timeout == 1200.0
    assert config.cluster_max_cores == 4.0
    assert (config.scheduler_cores, config.scheduler_memory) == (1, 2 * GIB)
    assert (config.worker_cores, config.worker_memory, config.cluster_max_workers) == (1, 4 * GIB, 3)
    for name in cluster_config(dask()):
        assert ClusterConfig.class_traits()[name].metadata["config"], name


def test_the_options_are_the_seeds_options() -> None:
    described = {field.name: field for field in fields(dask())}
    cores = Integer("worker_cores", 1, min=1, max=2)
    memory = Float("worker_memory", 4, min=4, max=6)
    for real in (cores, memory):
        ours = described[real.field]
        assert (ours.default, ours.min, ours.max) == (real.default, real.min, real.max)
    assert list(described) == ["worker_cores", "worker_memory"]
    options = Options(
        *[
            {"integer": Integer, "float": Float}[f.kind](f.name, f.default, min=f.min, max=f.max)
            for f in fields(dask())
        ]
    )
    assert options.parse_options({}) == {"worker_cores": 1, "worker_memory": 4.0}


def test_choices_become_traits() -> None:
    assert to_config(dask(), {}) == {"worker_cores": 1, "worker_memory": 4 * GIB}
    assert to_config(dask(), {"worker_cores": 2, "worker_memory": 5.5}) == {
        "worker_cores": 2,
        "worker_memory": int(5.5 * GIB),
    }
    assert to_config(dask(), {"worker_cores": 2.0})["worker_cores"] == 2


@given(st.integers(1, 2**45))
def test_every_size_of_a_site_can_be_chosen_exactly(size: int) -> None:
    site = dask(memory=(size, size, size), cluster=Cluster(max_workers=1, max_cores=4, max_memory=2**46))
    assert to_config(site, {"worker_memory": fields(site)[1].max})["worker_memory"] == size


@pytest.mark.parametrize(("chosen", "words"), [*REFUSED, ({"image": "a:b"}, "image cannot be chosen here")])
def test_a_refused_choice_names_the_limit_its_value_and_what_is_allowed(
    chosen: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError) as caught:
        to_config(dask(), chosen)
    assert words in str(caught.value)


def test_a_worker_that_no_cluster_can_hold_is_refused() -> None:
    site = dask(cluster=Cluster(max_workers=3, max_cores=2, max_memory=24 * GIB))
    with pytest.raises(ValueError, match=r"dask.cluster.max_cores is 2, and the scheduler takes 1 core"):
        to_config(site, {"worker_cores": 2})


def test_images_where_there_are_images() -> None:
    site = dask(image=Image(default="profile", choice="tagged"))
    assert [field.name for field in fields(site, images=True)][-1] == "image"
    assert "image" not in to_config(site, {}, images=True)
    assert to_config(site, {"image": "quay.io/x/y:1"}, images=True)["image"] == "quay.io/x/y:1"
    for bad in ("quay.io/x/y", "host:5000/img", "y:", 5, "a b:1", "x:1\n"):
        with pytest.raises(ValueError, match="image"):
            to_config(site, {"image": bad}, images=True)
    assert to_config(site, {"image": "x@sha256:" + "0" * 64}, images=True)["image"].startswith("x@")
    assert len(fields(dask(image=Image(choice="fixed")), images=True)) == 2
    named = dask(image=Image(default="x:1", choice="any"))
    assert to_config(named, {}, images=True)["image"] == "x:1"
    assert to_config(named, {"image": "untagged"}, images=True)["image"] == "untagged"


LIMITED = dask(per_user=PerUser(max_clusters=2, max_cores=6, max_memory=20 * GIB))


def test_a_user_within_the_totals_goes_on() -> None:
    usage = Usage(clusters=1, cores=3, memory=10 * GIB)
    check_user(LIMITED, usage, new_cluster(LIMITED))
    check_user(LIMITED, usage, new_workers(1, 5 * GIB, 2))
    check_user(LIMITED, Usage(), Usage())
    check_user(dask(), Usage(1, 1000.0, 2**50), new_workers(8, GIB))


@pytest.mark.parametrize(("has", "wants", "key", "words"), OVER_TOTALS)
def test_a_user_over_a_total_reads_which(
    has: tuple[int, int, int], wants: tuple[int, int, int], key: str, words: str
) -> None:
    usage, wanted = (Usage(clusters, cores, gib * GIB) for clusters, cores, gib in (has, wants))
    with pytest.raises(LimitExceeded) as caught:
        check_user(LIMITED, usage, wanted)
    assert caught.value.key == key
    assert key in str(caught.value)
    assert words in str(caught.value)
