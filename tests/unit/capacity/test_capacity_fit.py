from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidehub.capacity.fit import USERS, WORKERS, capacity, cramped, fit, impossible, workers_that_fit
from tidehub.site import builtin_site, load_site
from tidehub.site.coherence.check import check
from tidehub.site.model import Site

GIB = 2**30
EXAMPLES = Path(__file__).parents[3] / "examples"


def protocoast() -> Site:
    return load_site(EXAMPLES / "protocoast" / "tidehub.yaml")


def needed(site: Site) -> int:
    """Two users with the largest notebook guarantee, one scheduler, two default workers."""
    notebook = max(site.notebooks.memory_of(profile).guarantee for profile in site.notebooks.profiles)
    return USERS * notebook + site.dask.scheduler.memory + WORKERS * site.dask.worker.memory.default


def test_the_reserve_is_not_for_users() -> None:
    assert capacity(8 * GIB, builtin_site()) == 7 * GIB
    assert capacity(GIB // 2, builtin_site()) == 0


def test_what_never_fits_is_said_with_the_numbers() -> None:
    (notebook, *rest) = impossible(protocoast(), 5 * GIB, 2)
    assert "ProtoCoast - main guarantees 5 GiB" in notebook
    assert "this machine has 4 GiB for users (5 GiB, of which machine.reserve_memory keeps 1 GiB)" in notebook
    assert any("ProtoCoast - develop" in line for line in rest)
    scheduler_and_worker = impossible(protocoast(), 2 * GIB, 2)
    assert any("scheduler takes 2 GiB" in line for line in scheduler_and_worker)
    assert any("worker takes 4 GiB" in line for line in scheduler_and_worker)


def test_what_fits_alone_but_never_together_is_said() -> None:
    (line,) = impossible(protocoast(), 8 * GIB, 2)
    assert "5 GiB + 2 GiB + 4 GiB = 11 GiB" in line


def test_a_profile_beside_which_no_worker_fits_is_said() -> None:
    site, small = builtin_site(), 3 * GIB - 80 * 2**20
    assert impossible(site, small, 1) == []
    (line,) = cramped(site, small)
    assert "profile Standard (512 MiB), a scheduler (512 MiB) and one worker (1 GiB)" in line
    assert "the 1.9 GiB that this machine has for users" in line
    assert cramped(site, 3 * GIB) == []
    fitted, _ = fit(site, small, 1)
    assert cramped(fitted, small) == []
    assert workers_that_fit(fitted, capacity(small, fitted), fitted.notebooks.memory.guarantee) >= WORKERS
    assert cramped(site.model_copy(update={"dask": site.dask.model_copy(update={"engine": "none"})}), 0) == []


def test_cores_that_the_machine_does_not_have() -> None:
    site = protocoast()
    cores = site.notebooks.cpu.model_copy(update={"guarantee": 2.0})
    greedy = site.model_copy(update={"notebooks": site.notebooks.model_copy(update={"cpu": cores})})
    assert impossible(greedy, 64 * GIB, 2) == []
    assert any(
        "guarantees 2 cores, and this machine has 1" in line for line in impossible(greedy, 64 * GIB, 1)
    )


def test_a_site_without_dask_is_judged_by_its_notebooks() -> None:
    site = protocoast()
    site = site.model_copy(update={"dask": site.dask.model_copy(update={"engine": "none"})})
    assert impossible(site, 8 * GIB, 2) == []
    assert fit(site, 11 * GIB, 2) == (site, [])
    assert fit(site, 8 * GIB, 2)[0].dask == site.dask


def test_a_site_that_fits_is_left_alone() -> None:
    site = protocoast()
    assert needed(site) == 20 * GIB
    assert impossible(site, 24 * GIB, 2) == []
    assert fit(site, 24 * GIB, 2) == (site, [])


def test_a_large_site_is_shrunk_in_proportion_to_a_laptop() -> None:
    site = protocoast()
    fitted, changed = fit(site, 8 * GIB, 2)
    assert needed(fitted) <= capacity(8 * GIB, fitted)
    assert impossible(fitted, 8 * GIB, 2) == []
    ratio = fitted.notebooks.memory.guarantee / site.notebooks.memory.guarantee
    for before, after in [
        (site.notebooks.memory.limit, fitted.notebooks.memory.limit),
        (site.dask.scheduler.memory, fitted.dask.scheduler.memory),
        (site.dask.worker.memory.default, fitted.dask.worker.memory.default),
        (site.dask.cluster.max_memory, fitted.dask.cluster.max_memory),
    ]:
        assert after / before == pytest.approx(ratio, rel=0.05)
    assert "notebooks.memory.guarantee: 5 GiB becomes 1.75 GiB" in changed
    assert site.notebooks.memory.guarantee == 5 * GIB


def test_cores_are_cut_to_the_machine() -> None:
    fitted, changed = fit(protocoast(), 64 * GIB, 1)
    assert (fitted.notebooks.cpu.limit, fitted.dask.worker.cores.max) == (1, 1)
    assert "dask.worker.cores.max: 2 cores becomes 1 core" in changed


def test_a_machine_that_is_too_small_even_then_is_said() -> None:
    fitted, changed = fit(protocoast(), GIB, 1)
    assert "even so" in changed[-1]
    assert fitted.machine.reserve_memory < builtin_site().machine.reserve_memory


@settings(max_examples=60)
@given(st.integers(2**28, 2**36), st.sampled_from([0.5, 1, 2, 4, 64]), st.booleans())
def test_a_fitted_site_is_coherent_and_fits_unless_it_says_otherwise(
    memory: int, cores: float, small: bool
) -> None:
    site = builtin_site() if small else protocoast()
    fitted, changed = fit(site, memory, cores)
    assert [problem for problem in check(fitted) if problem.severity == "error"] == []
    assert Site.model_validate(fitted.model_dump()) == fitted
    if not any("even so" in line for line in changed):
        assert needed(fitted) <= capacity(memory, fitted)
        if cores >= 1:
            assert impossible(fitted, memory, cores) == []
    assert fit(fitted, memory, cores)[0] == fitted or any("even so" in line for line in changed)


def with_group(memory: dict[str, int], cpu: dict[str, float] | None = None) -> Site:
    notebooks = {"memory": memory, **({"cpu": cpu} if cpu else {})}
    data = builtin_site().model_dump(mode="json", by_alias=True)
    data["login"]["groups"] = [{"group": "urn:mace:egi.eu:group:vo:role=power", "notebooks": notebooks}]
    return Site.model_validate(data)


def test_a_groups_guarantee_that_never_fits_is_said() -> None:
    site = with_group({"guarantee": 30 * GIB, "limit": 40 * GIB})
    assert "guarantees 30 GiB of memory" in impossible(site, 16 * GIB, 4)[0]
    assert impossible(with_group({"limit": 40 * GIB}), 16 * GIB, 4) == []


def test_a_groups_sizes_are_shrunk_too() -> None:
    site = with_group({"guarantee": 30 * GIB, "limit": 40 * GIB}, {"guarantee": 8, "limit": 16})
    fitted, changed = fit(site, 16 * GIB, 2)
    more = fitted.login.groups[0].notebooks
    assert more is not None and more.memory is not None and more.cpu is not None
    assert more.memory.guarantee is not None and more.memory.guarantee < 16 * GIB
    assert (more.cpu.guarantee, more.cpu.limit) == (2, 2)
    assert any(
        line.startswith("login.groups[0].notebooks.memory.guarantee: 30 GiB becomes") for line in changed
    )
    assert impossible(fitted, 16 * GIB, 2) == []
