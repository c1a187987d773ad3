"""What `explain` says a key becomes is what is installed: every destination, against the values as they are built."""

from __future__ import annotations

import ast
from functools import cache
from typing import Any

import pytest
from value_sites import PLAIN, RULES, VO, built, example, site

from tidehub.login.endpoints import Endpoints
from tidehub.site.destinations.catalogue import Destination, destinations, leaves, value_at
from tidehub.site.explain import explain, lines
from tidehub.site.model import Site
from tidehub.site.problems import dotted
from tidehub.site.reading.load import Loaded

ISSUER = "https://login.example.org/realms/x"
FOUND = Endpoints(ISSUER, f"{ISSUER}/a", f"{ISSUER}/t", f"{ISSUER}/u", f"{ISSUER}/j", f"{ISSUER}/end")
OIDC = PLAIN.replace(
    "provider: egi-check-in",
    f"""\
provider: oidc
  issuer: {ISSUER}
  endpoints:
    authorize: {ISSUER}/a
    token: {ISSUER}/t
    userinfo: {ISSUER}/u
    jwks: {ISSUER}/j
    end_session: {ISSUER}/end""",
)
DISCOVERED = PLAIN.replace("provider: egi-check-in", f"provider: oidc\n  issuer: {ISSUER}")
EVERYTHING = RULES.replace(
    "  groups:\n",
    """\
  admins: {users: [ada], groups: ["urn:mace:egi.eu:group:vo.example.eu:role=admin"]}
  enrolment_url: https://example.org/join
  refresh: 10 min
  grace: 2 h
  block: [mallory]
  names: {"0a1b": ada}
  groups:
""",
).replace(
    "notebooks: {memory: {limit: 16 GiB}, cpu: {limit: 8}}",
    """\
notebooks: {memory: {limit: 16 GiB, guarantee: 2 GiB}, cpu: {limit: 8}}
      dask:
        enabled: true
        worker: {cores: {max: 4}, memory: {max: 16 GiB}}
        cluster: {max_workers: 20, max_cores: 40, max_memory: 80 GiB}
        per_user: {max_clusters: 4, max_cores: 80, max_memory: 160 GiB}""",
)
ALLOWED = EVERYTHING.replace(
    '{name: Small, default: true, image: "quay.io/x/small:1"}\n    - {name: Large, ',
    '{name: Small, default: true, image: "quay.io/x/small:1"}\n'
    '    - {name: Other, image: "quay.io/x/other:1", allow: {users: [ada], groups: ["urn:x:group:vo"]}}\n'
    "    - {name: Large, ",
).replace("urn:x:group:vo", "urn:mace:egi.eu:group:vo.example.eu:role=other")
OVERRIDDEN = """\
overrides:
  helm: {jupyterhub: {hub: {config: {JupyterHub: {authenticator_class: github}}}}}
"""
CHARTS = {
    "current": "model: split",
    "gateway 2022.6": "model: split, charts: {dask-gateway: 2022.6.1}",
    "hub 3": "model: split, charts: {jupyterhub: 3.3.8}",
    "hub 2": "model: split, charts: {jupyterhub: 2.0.0}",
    "hub 1": "model: split, charts: {jupyterhub: 1.2.0, dask-gateway: 2022.6.1}",
    "daskhub": "model: daskhub",
    "daskhub 2022.6": "model: daskhub, charts: {daskhub: 2022.6.0}",
}
WAYS_IN = (
    "kind: ingress, class: nginx, issuer: letsencrypt, annotations: {a: b}",
    "kind: ingress, class: traefik, tls_secret: mine",
    "kind: load-balancer, address: 192.0.2.1, annotations: {a: b}",
    "kind: load-balancer, tls_secret: mine",
    "kind: gateway-api, class: envoy, issuer: letsencrypt, address: 192.0.2.1",
    "kind: gateway-api, gateway: {name: shared, namespace: infra, listener: https, redirect_listener: http}",
)
LOOSE = """\
dask:
  access: groups
  per_user: {max_cores: 20, max_memory: 40 GiB}
  image: {default: profile, choice: any}
"""


def _variants() -> dict[str, Site]:
    found = {name: example(name) for name in ("protocoast", "pangeo")}
    found["protocoast, daskhub"] = example("protocoast", "model: split", "model: daskhub")
    found["pangeo, split"] = example(
        "pangeo", "model: daskhub\n  charts: {daskhub: 2022.6.0}", "model: split"
    )
    for name, charts in CHARTS.items():
        for engine in ("gateway", "operator", "none"):
            found[f"{name}, {engine}"] = site(PLAIN, f"{{{charts}}}", f"dask: {{engine: {engine}}}\n")
        found[f"{name}, OpenID Connect"] = site(OIDC, f"{{{charts}}}")
        found[f"{name}, everything"] = site(ALLOWED, f"{{{charts}}}")
        found[f"{name}, login of its own"] = site(PLAIN, f"{{{charts}}}", OVERRIDDEN)
    for name in ("current", "hub 3", "daskhub"):
        charts = CHARTS[name]
        found[f"{name}, discovered"] = site(DISCOVERED, f"{{{charts}}}")
        found[f"{name}, everyone"] = site(
            PLAIN.replace(f'{{groups: ["{VO}"]}}', "{everyone: true}"), f"{{{charts}}}"
        )
        found[f"{name}, choices"] = site(ALLOWED, f"{{{CHARTS[name]}}}", LOOSE)
        found[f"{name}, no dask but rules"] = site(RULES, f"{{{CHARTS[name]}}}", "dask: {engine: none}\n")
    for number, exposure in enumerate(WAYS_IN):
        for name in ("current", "hub 1", "daskhub"):
            kubernetes = f"{{{CHARTS[name]}, exposure: {{{exposure}}}}}"
            found[f"{name}, exposure {number}"] = site(kubernetes=kubernetes)
    plain = example("protocoast")
    found["without kubernetes"] = plain.model_copy(update={"kubernetes": None})
    return found


VARIANTS = _variants()


@cache
def installed(name: str) -> dict[str, dict[str, Any]]:
    """Values by chart as they are installed, overrides and all."""
    wanted = VARIANTS[name]
    asked = wanted.login.provider == "oidc" and wanted.login.endpoints is None
    platform = built(wanted, addresses=FOUND if asked else None)
    return {release.chart: dict(release.values) for release in platform.releases}


@cache
def read_by_code(text: str) -> dict[str, Any]:
    """What an entry gives to the classes that it carries, by their names: read from the text, never run."""
    found: dict[str, Any] = {"SiteAuthenticator": {}}
    for statement in ast.parse(text).body:
        if not isinstance(statement, ast.Assign):
            continue
        (target,) = statement.targets
        match target, statement.value:
            case ast.Attribute(ast.Attribute(ast.Name("c"), "SiteAuthenticator"), trait), value:
                found["SiteAuthenticator"][trait] = ast.literal_eval(value)
            case ast.Name("tidehub_rule"), ast.Call(ast.Name("SiteRule"), [rule, names, blocked]):
                parts = {"rule": rule, "names": names, "blocked": blocked}
                found["SiteRule"] = {part: ast.literal_eval(value) for part, value in parts.items()}
            case ast.Name("tidehub_choices"), ast.Call(ast.Name("ServerChoices"), [policy, *_]):
                found["ServerChoices"] = ast.literal_eval(policy)
            case ast.Name("_SITE"), data:
                found["SiteBackend"] = {"site": ast.literal_eval(data)}
    return found


def at(values: Any, path: Any) -> Any:
    """The value at a path. Raises `KeyError` or `IndexError` where there is none."""
    for part in path:
        values = values[part]
    return values


def falsehood(one: Destination, values: dict[str, dict[str, Any]]) -> str | None:
    """What is not so about a destination; None where all is as it says."""
    try:
        stands = at(values[one.chart], one.path)
        if one.within:
            stands = at(read_by_code(stands), one.within)
    except (KeyError, IndexError, TypeError):
        return "nothing stands there"
    if one.code:
        return None if one.value in stands.splitlines() else f"it holds no line {one.value}"
    same = stands == one.value and isinstance(stands, bool) == isinstance(one.value, bool)
    return None if same else f"{one.value!r} is said, {stands!r} stands there"


def told(wanted: Site) -> list[tuple[str, Destination]]:
    """Every key of a site with each place that Helm values have for it."""
    return [
        (dotted(path), one)
        for path in leaves(wanted)
        for one in destinations(wanted, path)
        if one.where == "helm"
    ]


@pytest.mark.parametrize("name", VARIANTS)
def test_what_is_told_is_installed(name: str) -> None:
    values = installed(name)
    false = [
        f"{key}: {one.chart}: {one.key} {'.'.join(map(str, one.within))}: {fault}"
        for key, one in told(VARIANTS[name])
        if (fault := falsehood(one, values))
    ]
    assert false == []
    assert len(told(VARIANTS[name])) > 20


def test_a_falsehood_would_be_noticed() -> None:
    values = installed("protocoast")
    by_key = dict(told(VARIANTS["protocoast"]))
    others = dict(told(example("protocoast", "limit: 10 GiB", "limit: 11 GiB")))
    assert falsehood(others["notebooks.memory.limit"], values) == "'11G' is said, '10G' stands there"
    others = dict(told(example("protocoast", "max: 6 GiB", "max: 5 GiB")))
    assert "6442450944 stands there" in str(falsehood(others["dask.worker.memory.max"], values))
    assert falsehood(by_key["dask.worker.memory.max"], values) is None
    assert falsehood(by_key["dask.worker.memory.max"], installed("pangeo")) == "nothing stands there"
    others = dict(told(VARIANTS["hub 3, everything"]))
    assert falsehood(others["login.block"], values) == "nothing stands there"
    (commands, _) = [one for _, one in told(VARIANTS["protocoast"]) if one.key.endswith("00-commands")]
    assert falsehood(commands, values) is None
    assert "holds no line" in str(falsehood(commands, _without_scheduler(values)))


def _without_scheduler(values: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {"dask-gateway": {"gateway": {"extraConfig": {"00-commands": "c.Other = 1"}}}} | {
        chart: inner for chart, inner in values.items() if chart != "dask-gateway"
    }


LOGIN, USERS = "hub.extraConfig.0-tidehub-login", "hub.extraConfig.0-tidehub-people"
POLICY = "gateway.extraConfig.30-policy"
GROUP = "login.groups[0]"


@pytest.mark.parametrize(
    ("name", "key", "entry", "reader"),
    [
        ("protocoast", "dask.image.choice", POLICY, "SiteBackend.site.{}"),
        ("protocoast", "dask.per_user.max_clusters", POLICY, "SiteBackend.site.{}"),
        ("protocoast", "login.allow.groups", LOGIN, "SiteAuthenticator.rule.allow.groups"),
        ("pangeo", "login.allow.groups", f"jupyterhub.{LOGIN}", "SiteRule.rule.allow.groups"),
        ("hub 3, everything", "login.names", LOGIN, "SiteRule.names"),
        ("current, everything", "login.grace", LOGIN, "SiteAuthenticator.grace"),
        ("current, everything", f"{GROUP}.notebooks.memory.limit", USERS, "ServerChoices.{}"),
        ("current, everything", f"{GROUP}.dask.cluster.max_cores", POLICY, "SiteBackend.site.{}"),
        ("current, everything", "notebooks.profiles[1].allow.users", USERS, "ServerChoices.{}"),
    ],
)
def test_where_the_code_reads_a_key(name: str, key: str, entry: str, reader: str) -> None:
    found = [(one.key, dotted(one.within)) for told_key, one in told(VARIANTS[name]) if told_key == key]
    assert (entry, reader.format(key)) in found


@pytest.mark.parametrize("name", VARIANTS)
def test_every_key_that_the_policy_has_is_told(name: str) -> None:
    # What the site states about users and clusters reaches them with every chart, or the values do not exist.
    wanted = VARIANTS[name]
    keys = {key for key, _ in told(wanted)}
    for path in leaves(wanted):
        stated = value_at(wanted, path) not in (None, (), {})
        if stated and wanted.dask.engine == "gateway" and path[0] == "dask":
            assert dotted(path) in keys
        if stated and path[:2] == ("login", "allow") and not name.endswith("login of its own"):
            assert dotted(path) in keys


def test_a_worker_has_no_limit_of_the_chart() -> None:
    for name, wanted in VARIANTS.items():
        assert not [one for _, one in told(wanted) if "backend.worker" in one.key and "limit" in one.key], (
            name
        )


def test_another_login_leaves_none_of_ours() -> None:
    for name in CHARTS:
        keys = [
            one.key for key, one in told(VARIANTS[f"{name}, login of its own"]) if key.startswith("login.")
        ]
        assert keys == [], name


def test_the_words() -> None:
    shown = "\n".join(
        line
        for key in ("dask.worker.cores.max", "login.client_id", "dask.engine", "login.allow.groups")
        for line in lines(explain(key, Loaded(example("protocoast"), (), {})))
    )
    reads = "Python, which reads"
    for line in (
        f"dask-gateway: {POLICY}: {reads} SiteBackend.site.dask.worker.cores.max = 2",
        f"jupyterhub: {LOGIN}: {reads} SiteAuthenticator.client_id = protocoast-hub",
        'extraConfig.00-commands: Python, c.KubeClusterConfig.worker_cmd = ["dask", "worker"]',
        f"{reads} SiteAuthenticator.rule.allow.groups = [urn:mace:egi.eu:group:vo.pangeo.eu:role=member]",
    ):
        assert line in shown
