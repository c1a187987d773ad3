"""A site as plain values: whoever asks what a user has gets the same answer as from the site itself."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tidehub.login.carried import modules_text
from tidehub.login.entitled import Entitled, entitled
from tidehub.login.plain import Plain, plain_site, policy_of
from tidehub.site.model import Site
from tidehub.site.reading.load import load_text

VO = "urn:mace:egi.eu:group:vo.example.eu"
SITE = load_text(
    f"""
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
dask: {{access: groups, per_user: {{max_clusters: 1, max_cores: 10}}}}
""",
    "tidehub.yaml",
).site
OPEN = SITE.model_copy(update={"dask": SITE.dask.model_copy(update={"access": "everyone"})})
ENDS = ("", ":role=power", ":students", ":students:a:role=x", ":gpu", ":x:role=dask")
HELD = st.lists(st.sampled_from([f"{VO}{end}" for end in ENDS]) | st.text(max_size=10))


def values(user: Entitled) -> dict[str, Any]:
    """What matters of a user, as JSON has it."""

    def amounts(have: Any) -> dict[str, float]:
        return {"guarantee": have.guarantee, "limit": have.limit}

    def plain(section: Any) -> Any:
        return {name: plain(inner) for name, inner in section} if hasattr(section, "model_copy") else section

    return {
        "servers": [
            (one.profile.slug, one.by, amounts(one.memory), amounts(one.cpu)) for one in user.servers
        ],
        "default": user.default.profile.slug if user.default else None,
        "dask": plain(user.dask) if user.dask is not None else None,
        "dask_by": user.dask_by,
        "grants": user.grants,
    }


@given(st.sampled_from([SITE, OPEN]), st.sampled_from(["ann", "gina"]), HELD)
def test_both_give_the_same(site: Site, name: str, held: list[str]) -> None:
    plain = plain_site(json.loads(json.dumps(policy_of(site))))
    assert values(entitled(plain, name, held)) == values(entitled(site, name, held))  # type: ignore[arg-type]


def test_a_copy_leaves_the_original_alone() -> None:
    one = Plain(a=1, b=2)
    assert one.model_copy({"b": 3}) == Plain(a=1, b=3)
    assert dict(one) == {"a": 1, "b": 2}


def test_what_travels_decides_the_same_from_its_text() -> None:
    """In a process of its own, where nothing of ours can be imported."""
    import subprocess
    import sys

    text = modules_text(["login.rule", "site.units", "login.entitled", "login.plain"])
    text += f"""
from tidehub.login.entitled import entitled
from tidehub.login.plain import plain_site
user = entitled(plain_site({policy_of(SITE)!r}), "gina", ["{VO}:role=power#some.authority"])
print([(one.profile.slug, one.memory.limit) for one in user.servers], user.dask.per_user.max_clusters)
assert "pydantic" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-I", "-"], input=text, capture_output=True, text=True, cwd="/", timeout=60
    )
    assert done.stderr == ""
    gib = 2**30
    assert done.stdout == f"[('main', {8 * gib}), ('large', {16 * gib}), ('gpu-lab', {8 * gib})] 3\n"
