"""KubeSpawner's list of profiles for one user: what they may start, how large, and nothing else."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from tornado import gen

from tidehub.login.plain import policy_of
from tidehub.login.server_choices import MayNotStart, ServerChoices, groups_of
from tidehub.site.destinations.catalogue import helm_fragments
from tidehub.site.reading.load import load_text

GIB = 2**30
VO = "urn:mace:egi.eu:group:vo.example.eu"
TEXT = f"""
site: {{name: Coast, url: "https://hub.example.org", contact: help@example.org}}
login:
  provider: egi-check-in
  client_id: testing
  scopes: [openid, entitlements]
  allow: {{everyone: true}}
  groups:
    - group: {VO}:role=power
      profiles: [large]
      notebooks: {{memory: {{limit: 16 GiB}}, cpu: {{guarantee: 2, limit: 8}}}}
    - {{group: "{VO}:role=dask", dask: {{enabled: true}}}}
notebooks:
  cpu: {{guarantee: 0.5, limit: 2}}
  memory: {{guarantee: 1 GiB, limit: 4 GiB}}
  profiles:
    - {{name: Small, default: true, allow: {{groups: ["{VO}"]}}}}
    - {{name: Large, image: "quay.io/x/large:1", description: A lot}}
dask: {{access: groups}}
"""


def choices(text: str = TEXT) -> ServerChoices:
    site = load_text(text, "tidehub.yaml").site
    profiles = helm_fragments(site)["jupyterhub"]["singleuser"]["profileList"]
    words = {"name": site.site.name, "contact": site.site.contact}
    return ServerChoices(policy_of(site), profiles, words, groups_of)


def spawner(*held: str, name: str = "ann", profile: str | None = None) -> Any:
    groups = [SimpleNamespace(name=group) for group in held]
    return SimpleNamespace(
        user=SimpleNamespace(name=name, groups=groups),
        user_options={"profile": profile} if profile else {},
        _profile_list=["what an earlier start left"],
    )


def shown(asked: ServerChoices, one: Any) -> list[dict[str, Any]]:
    """As KubeSpawner before 5 asks: what is not a future is taken for the list."""

    async def ask() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await gen.maybe_future(asked.profile_list(one))
        return found

    return asyncio.run(ask())


def listed(*held: str) -> list[dict[str, Any]]:
    return shown(choices(), spawner(*held))


def sizes(entry: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = entry["kubespawner_override"]
    return {name: found[name] for name in ("cpu_guarantee", "cpu_limit", "mem_guarantee", "mem_limit")}


def test_a_member_sees_what_is_theirs() -> None:
    (small,) = listed(f"{VO}:role=member")
    assert (small["slug"], small["default"]) == ("small", True)
    assert sizes(small) == {
        "cpu_guarantee": 0.5, "cpu_limit": 2, "mem_guarantee": GIB, "mem_limit": 4 * GIB,
    }  # fmt: skip


def test_a_group_has_more_profiles_and_larger_servers() -> None:
    small, large = listed(f"{VO}:role=power#some.authority")
    assert [one["slug"] for one in (small, large)] == ["small", "large"]
    assert large["kubespawner_override"]["image"] == "quay.io/x/large:1"
    assert sizes(large) == {"cpu_guarantee": 2, "cpu_limit": 8, "mem_guarantee": GIB, "mem_limit": 16 * GIB}


def test_everything_is_stated_because_kubespawner_takes_nothing_back() -> None:
    for entry in listed(f"{VO}:role=power"):
        assert set(sizes(entry)) <= set(entry["kubespawner_override"])


def test_who_may_start_nothing_reads_so() -> None:
    with pytest.raises(MayNotStart) as caught:
        listed("urn:mace:egi.eu:group:other")
    assert caught.value.status_code == 403
    assert caught.value.jupyterhub_message == (
        "You may enter Coast, but none of its environments is open to your account. Questions: help@example.org"
    )


def test_exactly_one_profile_is_preselected_when_the_default_is_for_others() -> None:
    text = TEXT.replace("profiles: [large]", "profiles: []").replace(
        "- {name: Large,", "- {name: Large, allow: {users: [ann]},"
    )
    (large,) = shown(choices(text), spawner("urn:mace:egi.eu:group:other"))
    assert (large["slug"], large["default"]) == ("large", True)


def test_a_forged_profile_is_refused_before_the_start() -> None:
    asyncio.run(choices().before_start(spawner(f"{VO}:role=power", profile="large")))
    for forged in ("large", "none-of-ours"):
        with pytest.raises(MayNotStart) as caught:
            asyncio.run(choices().before_start(spawner(f"{VO}:role=member", profile=forged)))
        assert caught.value.jupyterhub_message == (
            f"There is no profile {forged!r} that you may start; possible: small."
        )


def test_nothing_of_an_earlier_start_is_remembered() -> None:
    one = spawner(f"{VO}:role=member")
    asyncio.run(choices().before_start(one))
    assert one._profile_list is None


def test_profiles_that_the_site_does_not_know_are_not_shown() -> None:
    site = load_text(TEXT, "tidehub.yaml").site
    foreign = [{"display_name": "Free for all", "slug": "free"}, {"display_name": "No slug"}]
    asked = ServerChoices(policy_of(site), foreign, {"name": "x"}, groups_of)
    with pytest.raises(MayNotStart):
        shown(asked, spawner(f"{VO}:role=power"))


def test_only_who_may_start_clusters_has_a_token_for_them() -> None:
    dask = "access:services!service=dask-gateway"
    assert dask in choices().server_token_scopes(spawner(f"{VO}:role=dask"))
    assert choices().server_token_scopes(spawner(f"{VO}:role=power")) == [
        "users:activity!user",
        "access:servers!server",
    ]


def test_a_list_is_not_changed_by_showing_it() -> None:
    asked = choices()
    before = shown(asked, spawner(f"{VO}:role=power"))
    after = shown(asked, spawner(f"{VO}:role=member"))
    assert sizes(after[0])["mem_limit"] == 4 * GIB
    assert sizes(before[0])["mem_limit"] == 16 * GIB
