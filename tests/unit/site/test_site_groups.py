"""Rules for groups, profiles and assurance in a site file: what is refused or warned about, and where it stands."""

from __future__ import annotations

import pytest

from tidehub.site.problems import Problem, SiteError
from tidehub.site.reading.load import load_text

VO = "urn:mace:egi.eu:group:vo.example.eu"
TEXT = """\
site: {name: Testing, url: "https://hub.example.org"}
login:
  provider: egi-check-in
  client_id: 0a1b2c
  scopes: [openid, profile, entitlements, eduperson_assurance]
  allow:
    groups: ["VO:role=member"]
  groups:
    - group: VO:role=power
      profiles: [large]
      notebooks: {memory: {limit: 8 GiB}}
notebooks:
  profiles:
    - {name: Main, default: true}
    - {name: Large}
dask:
  cluster: {max_workers: 4, max_cores: 10, max_memory: 16 GiB}
"""


def problems(old: str = "", new: str = "") -> list[Problem]:
    text = TEXT.replace(old, new).replace("VO:", f"{VO}:").replace('"VO"', f'"{VO}"')
    assert text != TEXT or not old
    try:
        found = load_text(text, "tidehub.yaml").warnings
    except SiteError as error:
        found = error.problems
    # No site here names administrators.
    return [problem for problem in found if problem.key != "login.admins"]


def test_a_site_with_rules_for_groups_is_well() -> None:
    assert problems() == []


@pytest.mark.parametrize("group", ["VO:*", "VO:*:role=admin", "urn:geant:eosc-federation.eu:group:*", '"VO"'])
def test_prefixes_are_understood(group: str) -> None:
    assert problems('["VO:role=member"]', f"[{group if group[0] == chr(34) else repr(group)}]") == []


@pytest.mark.parametrize(
    ("old", "new", "key", "place", "severity", "words"),
    [
        # memberships
        ("VO:role=member", "VO*", "login.allow.groups[0]", (7, 14), "error", "can never match"),
        ("VO:role=member", "VO:*:sub", "login.allow.groups[0]", (7, 14), "error", "nothing but a role"),
        ("group: VO:role=power", "group: vo.example.eu", "login.groups[0].group", (9, 14), "error", "urn:"),
        (
            "    - group: VO:role=power\n",
            "    - {group: 'VO:role=power', profiles: [large]}\n    - group: VO:role=power\n",
            "login.groups[1].group",
            (10, 14),
            "warning",
            "same membership",
        ),
        ("{name: Large}", "{name: Large, allow: {groups: [nonsense]}}", "notebooks.profiles[1].allow.groups[0]",
         (15, 38), "error", "can never match"),
        # profiles
        ("[large]", "[larg]", "login.groups[0].profiles[0]", (10, 18), "error", "profile 'larg' does not exist"),
        ("{name: Large}", "{name: Large, allow: {}}", "notebooks.profiles[1].allow", (15, 28), "error", "no user may"),
        ("{name: Main, default: true}", "{name: Main, default: true, allow: {users: [ann]}}",
         "notebooks.profiles", (14, 5), "warning", "can start no server"),
        ("- {name: Main, default: true}\n    - {name: Large}", "- {name: Main}\n    - {name: Large, default: true}",
         "notebooks.profiles[1].default", (15, 30), "warning", "for others 'Main'"),
        # sizes
        ("{limit: 8 GiB}", "{guarantee: 9 GiB, limit: 8 GiB}", "login.groups[0].notebooks.memory.guarantee",
         (11, 39), "error", "more than the limit"),
        ("{limit: 8 GiB}", "{limit: 1 GiB}", "login.groups[0].notebooks.memory.limit", (11, 35), "warning",
         "everybody has 2 GiB already"),
        ("{limit: 8 GiB}", "{limit: 8}", "login.groups[0].notebooks.memory.limit", (11, 35), "error", "no unit"),
        ("{memory: {limit: 8 GiB}}", "{memry: {limit: 8 GiB}}", "login.groups[0].notebooks.memry", (11, 19), "error",
         "not known"),
        ("      profiles: [large]\n      notebooks: {memory: {limit: 8 GiB}}\n", "",
         "login.groups[0]", (9, 7), "warning", "nothing"),
        # Dask
        ("      notebooks: {", "      dask: {enabled: true}\n      notebooks: {", "login.groups[0].dask.enabled",
         (11, 23), "warning", "everybody may start clusters already"),
        ("      notebooks: {", "      dask: {cluster: {max_cores: 2}}\n      notebooks: {", "login.groups[0].dask",
         (11, 13), "warning", "no limit in it is larger"),
        ("      notebooks: {", "      dask: {worker: {memory: {max: 64 GiB}}}\n      notebooks: {",
         "login.groups[0].dask", (11, 13), "error", "with what this group has beyond everybody"),
        ("dask:\n  c", "dask:\n  access: groups\n  c", "dask.access", (17, 11), "error", "no group is enabled"),
        ("dask:\n  c", "dask:\n  access: everybody\n  c", "dask.access", (17, 11), "error", "not a choice"),
        # assurance
        ("eduperson_assurance", "email", "login.scopes", (5, 11), "", ""),
        ("    groups: [", "    assurance: [nonsense]\n    groups: [", "login.allow.assurance[0]", (7, 17), "warning",
         "not a level that"),
        ("    groups: [", "    assurance: ['https://aai.egi.eu/LoA#substantial']\n    groups: [",
         "login.allow.assurance[0]", (7, 17), "warning", "not a level that"),
        ("    groups: [", "    assurance: ['https://refeds.org/assurance/IAP/low']\n    groups: [",
         "login.allow.assurance[0]", (7, 17), "warning", "keeps nobody out"),
        ("    groups: [", "    assurance: ['https://aai.egi.eu/LoA#Substantial']\n    groups: [",
         "login.allow.assurance[0]", (7, 17), "warning", "a better one alone does not meet it"),
    ],
)  # fmt: skip
def test_contradictions_with_their_place(
    old: str, new: str, key: str, place: tuple[int, int], severity: str, words: str
) -> None:
    found = problems(old, new)
    if not severity:
        assert found == []
        return
    hits = [problem for problem in found if problem.key == key and words in problem.what]
    assert hits, [str(problem) for problem in found]
    assert hits[0].severity == severity
    assert hits[0].where is not None
    assert (hits[0].where.line, hits[0].where.column) == place


def test_a_required_assurance_needs_its_scope() -> None:
    text = TEXT.replace(", eduperson_assurance", "").replace(
        "    groups: [", "    assurance: ['https://aai.egi.eu/LoA#High']\n    groups: ["
    )
    with pytest.raises(SiteError, match="no scope is asked for that releases it"):
        load_text(text.replace("VO:", f"{VO}:"), "tidehub.yaml")


def test_memberships_of_profiles_need_a_scope_too() -> None:
    text = TEXT.replace(", entitlements", "").replace('groups: ["VO:role=member"]', "users: [ann]")
    with pytest.raises(SiteError, match="no scope is asked for that releases them"):
        load_text(text.replace("VO:", f"{VO}:"), "tidehub.yaml")


def test_dask_for_groups_is_well_when_one_is_enabled() -> None:
    text = TEXT.replace("dask:\n  c", "dask:\n  access: groups\n  c").replace(
        "      notebooks: {", "      dask: {enabled: true}\n      notebooks: {"
    )
    warnings = load_text(text.replace("VO:", f"{VO}:"), "tidehub.yaml").warnings
    assert [problem.key for problem in warnings] == ["login.admins"]


def on_kubernetes(charts: str) -> list[tuple[str, str]]:
    """Severity and key of what is said about the rules with these charts."""
    text = TEXT.replace("VO:", f"{VO}:").replace("dask:\n  c", "dask:\n  access: groups\n  c")
    text = text.replace(
        "      notebooks: {", "      dask: {enabled: true, per_user: {max_clusters: 9}}\n      notebooks: {"
    )
    text = text.replace("{name: Large}", "{name: Large, allow: {users: [ann]}, image: 'a:1'}")
    kubernetes = f"kubernetes: {{{charts}exposure: {{class: nginx, issuer: letsencrypt}}}}\n"
    try:
        problems = load_text(text + kubernetes, "tidehub.yaml").warnings
    except SiteError as error:
        problems = error.problems
    keys = ("login", "dask", "kubernetes.model", "notebooks.profiles[1].allow")
    return [
        (problem.severity, problem.key)
        for problem in problems
        if problem.key.startswith(keys) and problem.key != "login.admins"
    ]


def test_the_release_sets_hub_keeps_every_rule() -> None:
    assert on_kubernetes("") == []


def test_what_an_older_hub_cannot_keep_is_said() -> None:
    again = ("warning", "login.refresh")
    assert on_kubernetes("charts: {jupyterhub: 3.3.8}, ") == [again]
    access = ("error", "dask.access")
    assert on_kubernetes("charts: {jupyterhub: 2.0.0, dask-gateway: 2022.6.1}, ") == [again, access]
    limits = ("warning", "login.groups[0].dask")
    assert on_kubernetes("charts: {jupyterhub: 1.2.0, dask-gateway: 2022.6.1}, ") == [again, limits, access]


def test_a_hub_that_might_admit_everybody_is_refused() -> None:
    text = (
        TEXT.replace("VO:", f"{VO}:") + "kubernetes: {charts: {jupyterhub: 0.11.1, dask-gateway: 2022.6.1}}\n"
    )
    with pytest.raises(SiteError, match="it might admit everybody"):
        load_text(text, "tidehub.yaml")


def test_a_login_that_is_replaced_on_kubernetes_is_said() -> None:
    theirs = "{hub: {config: {JupyterHub: {authenticator_class: github}}}}"
    text = (
        TEXT.replace("VO:", f"{VO}:") + f"kubernetes: {{}}\noverrides: {{helm: {{jupyterhub: {theirs}}}}}\n"
    )
    said = [one.what for one in load_text(text, "tidehub.yaml").warnings if one.key == "login.allow"]
    assert len(said) == 1
    assert "replaces the login by github" in said[0]
