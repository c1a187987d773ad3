"""The policy that travels, executed by dask-gateway's own server without tidehub: the same words as on one machine."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway_inputs import OVER_TOTALS, REFUSED, SITE

from tidehub.gateway.choices import cluster_options
from tidehub.gateway.limits import LimitExceeded, Usage, check_user
from tidehub.kubernetes.values import gateway, gateway_code
from tidehub.login.carried import source
from tidehub.site.model import Site
from tidehub.site.reading.load import load_site, load_text

HERE = Path(__file__).parent
GIB = 2**30
OLD = "TIDEHUB_OLD_DASK_GATEWAY"
IN_THE_IMAGE = {"aiohttp", "dask_gateway_server", "kubernetes_asyncio", "traitlets"}
VO = "urn:mace:egi.eu:group:vo.example.eu"
KUBERNETES = "kubernetes: {charts: {dask-gateway: %s}}\n"
Ask = Callable[..., dict[str, Any]]


def python_of(version: str) -> str:
    """The Python of a dask-gateway of that version: this one's, or the one that the environment names."""
    if version == "2026.3.0":
        return sys.executable
    named = os.environ.get(OLD)
    if not named:
        pytest.skip(
            f"{OLD} is not set: it names the Python 3.10 of an environment with dask-gateway-server==2022.6.1, "
            "kubernetes-asyncio==22.6.5, aiohttp==3.8.1 and traitlets==5.2.2"
        )
    return named


@pytest.fixture(scope="module", params=["2026.3.0", "2022.6.1"])
def ask(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Asks the server of an image, configured anew for a site each time, to take steps."""
    command = [python_of(request.param), "-I", str(HERE / "gateway_image.py")]
    folder = tmp_path_factory.mktemp("image")
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=folder) as image:
        assert image.stdin is not None
        assert image.stdout is not None

        def asked(text: str, *steps: dict[str, Any], **more: Any) -> dict[str, Any]:
            site = load_text(text + KUBERNETES % request.param, "tidehub.yaml").site
            question = {"policy": extra_config(site), "steps": steps, **more}
            print(json.dumps(question), file=image.stdin, flush=True)
            line = image.stdout.readline()
            assert line, "the server's process ended; its traceback is above"
            answer: dict[str, Any] = json.loads(line)
            return answer

        yield asked
        image.stdin.close()


def extra_config(site: Site) -> str:
    """What the chart's configuration executes: the entries in the order of their names."""
    entries = gateway.values(site)["gateway"]["extraConfig"]
    return "\n".join(entries[name] for name in sorted(entries))


def local(text: str) -> Any:
    """The choices of a user on one machine."""
    user = type("User", (), {"name": "ann", "groups": []})()
    return cluster_options(load_text(text, "tidehub.yaml").site)(user)


def with_image(text: str, image: str) -> str:
    return text.replace("dask:\n", f"dask:\n  image: {image}\n")


def test_what_is_refused_reads_as_on_one_machine(ask: Ask) -> None:
    steps = [{"do": "start", "chosen": chosen} for chosen, _ in REFUSED]
    answer = ask(with_image(SITE, "{default: 'quay.io/x/main:1', choice: fixed}"), *steps)
    for (chosen, words), said in zip(REFUSED, answer["said"], strict=True):
        with pytest.raises(ValueError) as here:
            local(SITE).parse_options(chosen)
        # Only this reaches a user: upstream hides every other class of exception behind a status 500.
        assert said == {"refused": str(here.value), "kind": "PublicException"}
        assert words in said["refused"]
    assert answer["told"] == []


def test_what_is_chosen_becomes_the_traits_of_one_machine(ask: Ask) -> None:
    chosen = {"worker_cores": 2, "worker_memory": 5.5}
    (said,) = ask(SITE, {"do": "config", "chosen": chosen, "groups": ["g"]})["said"]
    here = local(SITE)
    user = type("User", (), {"name": "ann", "groups": ["g"]})()
    wanted = here.get_configuration(here.parse_options(chosen), user)
    del wanted["profile"]
    config = said["config"]
    # The traits clamp the number of workers by themselves: one of 2 cores beside the scheduler, of 4.
    assert wanted.pop("cluster_max_workers") == 3
    assert config["cluster_max_workers"] == 1
    assert {name: config[name] for name in wanted} == wanted
    assert config["worker_cores_limit"] == 2
    assert config["worker_memory_limit"] == int(5.5 * GIB)
    assert (config["scheduler_cores_limit"], config["scheduler_memory_limit"]) == (1, 2 * GIB)
    assert config["scheduler_cmd"] == ["dask", "scheduler"]
    assert config["worker_cmd"] == ["dask", "worker"]


@pytest.mark.parametrize(
    ("image", "chosen", "becomes"),
    [
        ("{default: profile, choice: fixed}", {}, "quay.io/x/main:1"),
        ("{default: profile, choice: fixed}", {"image": "quay.io/x/next:1"}, "quay.io/x/next:1"),
        ("{default: profile, choice: fixed}", {"profile": "next"}, "quay.io/x/next:1"),
        (
            "{default: profile, choice: fixed}",
            {"profile": "next", "image": "quay.io/x/main:1"},
            "quay.io/x/next:1",
        ),
        ("{default: profile, choice: tagged}", {}, "quay.io/x/main:1"),
        ("{default: profile, choice: tagged}", {"image": "quay.io/y:2"}, "quay.io/y:2"),
        # The chart's own, which the values set to this image.
        ("{default: 'quay.io/z:3', choice: fixed}", {}, "chart/default:1"),
        ("{default: 'quay.io/z:3', choice: any}", {}, "quay.io/z:3"),
        ("{default: 'quay.io/z:3', choice: any}", {"image": "quay.io/y"}, "quay.io/y"),
    ],
)
def test_the_image_follows_the_notebook_unless_the_site_says_otherwise(
    ask: Ask, image: str, chosen: dict[str, Any], becomes: str
) -> None:
    (said,) = ask(with_image(SITE, image), {"do": "config", "chosen": chosen})["said"]
    assert said["config"]["image"] == becomes


@pytest.mark.parametrize(
    ("image", "chosen", "words"),
    [
        ("{default: profile, choice: fixed}", {"image": "quay.io/y:2"}, "Choose profile: main, next"),
        ("{default: profile, choice: fixed}", {"profile": "gone"}, "profile 'gone' does not exist"),
        (
            "{default: profile, choice: tagged}",
            {"image": "quay.io/y"},
            "without a tag; this site asks for one",
        ),
        ("{default: 'quay.io/z:3', choice: fixed}", {"image": "quay.io/y:1"}, "image cannot be chosen here"),
    ],
)
def test_other_images_are_refused_in_words(ask: Ask, image: str, chosen: dict[str, Any], words: str) -> None:
    (said,) = ask(with_image(SITE, image), {"do": "start", "chosen": chosen})["said"]
    assert words in said["refused"]


def test_the_widget_has_a_field_for_every_default_of_a_notebook(ask: Ask) -> None:
    for choice in ("fixed", "tagged"):
        (spec,) = ask(with_image(SITE, f"{{default: profile, choice: {choice}}}"), {"do": "options"})["said"]
        assert [field["field"] for field in spec] == ["worker_cores", "worker_memory", "image"]


def test_totals_are_refused_as_on_one_machine(ask: Ask) -> None:
    answer = ask(
        SITE,
        *[{"do": "start"}] * 3,
        {"do": "start", "who": "bob"},
        {"do": "stop", "cluster": 0},
        {"do": "start"},
    )
    first, second, third, others, _, again = answer["said"]
    with pytest.raises(LimitExceeded) as here:
        check_user(load_text(SITE, "tidehub.yaml").site.dask, Usage(2, 2, 4 * GIB), Usage(1, 1, 2 * GIB))
    assert third == {"refused": str(here.value), "kind": "PublicException"}
    assert OVER_TOTALS[0][3] in third["refused"]
    assert {type(name) for name in (first, second, others, again)} == {str}


def test_a_request_for_a_new_cluster_waits_until_the_informer_shows_it(ask: Ask) -> None:
    """Else a stop at once would be answered with success, and nothing would be stopped."""
    _, said = ask(SITE, {"do": "start"}, {"do": "shown_late", "cluster": 0}, shown=False)["said"]
    assert said == {"early": False, "found": True}


@pytest.mark.parametrize("shown", [True, False])
def test_requests_at_once_do_not_share_the_last_cluster(ask: Ask, shown: bool) -> None:
    """Also while the informer does not show yet what was made."""
    (said,) = ask(SITE, {"do": "both", "count": 5}, shown=shown)["said"]
    assert said.count("made") == 2
    assert sum("dask.per_user.max_clusters" in words for words in said) == 3


def test_workers_are_granted_within_the_totals(ask: Ask) -> None:
    """20 GiB: two schedulers of 2 GiB leave four workers of 4 GiB; the other cluster gets what the first left."""
    beat = {"do": "heartbeat"}
    answer = ask(
        SITE,
        {"do": "start"},
        {"do": "start"},
        {**beat, "cluster": 0, "count": 3},
        {**beat, "cluster": 1, "count": 3},
        {"do": "most", "cluster": 1},
        {"do": "pods", "count": 3},
        {**beat, "cluster": 0, "count": 0, "active": 0},
        {**beat, "cluster": 1, "count": 3},
        {"do": "pods", "count": 0},
        {**beat, "cluster": 0, "count": 0},
        {**beat, "cluster": 1, "count": 3},
    )
    said = answer["said"]
    assert said[2:5] == [3, 1, {"most": 1, "untouched": True}]
    # Given back by the scheduler's word, but the pods are still there.
    assert said[6:8] == [0, 1]
    assert said[9:11] == [0, 3]


def test_what_was_granted_stays_when_another_cluster_takes_the_rest(ask: Ask) -> None:
    beat = {"do": "heartbeat", "count": 3}
    steps = [
        {"do": "start"},
        {**beat, "cluster": 0},
        {"do": "start"},
        {**beat, "cluster": 1},
        {**beat, "cluster": 0},
    ]
    assert ask(SITE, *steps)["said"][1::2] == [3, 1]
    assert ask(SITE, *steps)["said"][4] == 3


def test_a_smaller_scale_says_which_limit_it_was(ask: Ask) -> None:
    grown = [{"do": "start"}, {"do": "heartbeat", "cluster": 0, "count": 3}, {"do": "start"}]
    said = {"do": "scale", "cluster": 1, "said": "Scaling to 1 instead."}
    less, enough = ask(SITE, *grown, said, {**said, "said": None})["said"][3:]
    assert less["msg"] == (
        "Scaling to 1 instead. The limit is dask.per_user.max_cores: 6 for all clusters of one user together; "
        "a worker of yours has 1 core and 4 GiB, and the scheduler takes 1 core and 2 GiB."
    )
    assert enough == {"ok": True, "msg": None}


def test_each_cluster_is_closed_off_from_the_others(ask: Ask) -> None:
    answer = ask(SITE, {"do": "start"})
    (name,) = answer["objects"]
    cluster, policy = answer["told"]
    assert cluster == "cluster"
    theirs = {"matchLabels": {"gateway.dask.org/cluster": name.partition(".")[2]}}
    assert policy["spec"] == {
        "podSelector": theirs,
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": theirs}]}],
    }
    (owner,) = policy["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("DaskCluster", f"uid-{owner['name']}")


def test_a_cluster_that_cannot_be_closed_off_does_not_stay(ask: Ask) -> None:
    answer = ask(SITE, {"do": "start"}, refuses=["network"])
    assert answer["said"][0]["kind"] == "PublicException"
    assert "could not be closed off from other users': Forbidden" in answer["said"][0]["refused"]
    assert [one["spec"]["active"] for one in answer["objects"].values()] == [False]


FOR_GROUPS = f"""  allow: {{everyone: true}}
  groups:
    - group: {VO}:role=power
      profiles: [next]
      dask: {{enabled: true, worker: {{cores: {{max: 4}}}}, cluster: {{max_cores: 12}}, per_user: {{max_clusters: 3}}}}
    - group: {VO}:role=dask
      dask: {{enabled: true}}
"""
GROUPS = SITE.replace("  allow: {everyone: true}\n", FOR_GROUPS).replace(
    "dask:\n  worker", "dask:\n  access: groups\n  worker"
)


def test_memberships_give_what_they_give_on_one_machine(ask: Ask) -> None:
    power, dask = [f"{VO}:role=power"], [f"{VO}:role=dask"]
    answer = ask(
        GROUPS,
        {"do": "config", "chosen": {"worker_cores": 4, "profile": "next"}, "groups": power},
        {"do": "start", "chosen": {"worker_cores": 4}, "groups": dask},
        {"do": "start", "chosen": {"profile": "next"}, "groups": dask},
        {"do": "start"},
        *[{"do": "start", "groups": power, "who": "bob"}] * 4,
    )
    larger, cores, profile, nobody, *clusters = answer["said"]
    assert (larger["config"]["worker_cores"], larger["config"]["cluster_max_cores"]) == (4, 12.0)
    assert larger["config"]["image"] == "quay.io/x/next:1"
    assert "this site allows 1 to 2 cores" in cores["refused"]
    assert "profile 'next' does not exist; you may choose: main" in profile["refused"]
    assert nobody["refused"] == "Dask clusters are not open to your account at Testing."
    assert [isinstance(one, str) for one in clusters] == [True, True, True, False]


def test_who_may_have_no_clusters_is_told_at_the_widget(ask: Ask) -> None:
    (said,) = ask(GROUPS, {"do": "options"})["said"]
    assert said == {"refused": "Dask clusters are not open to your account at Testing.", "kind": "NoClusters"}


# --- the text -----------------------------------------------------------------------------------


def imported(name: str) -> set[str]:
    found = set()
    for node in ast.walk(unguarded(ast.parse(source(name)))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            inside = {f"{module}.{alias.name}" for alias in node.names}
            known = inside & {f"tidehub.{one}" for one in gateway_code.MODULES}
            found |= known or {module}
    return found


def unguarded(tree: ast.Module) -> ast.Module:
    """Without what is imported for types only."""
    tree.body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    ]
    return tree


@pytest.mark.parametrize("name", gateway_code.MODULES)
def test_a_module_that_travels_to_the_gateway_imports_only_what_is_there(name: str) -> None:
    before = {f"tidehub.{other}" for other in gateway_code.MODULES[: gateway_code.MODULES.index(name)]}
    for module in imported(name):
        root = module.partition(".")[0]
        assert module in before if root == "tidehub" else root in IN_THE_IMAGE | sys.stdlib_module_names, (
            module
        )


@pytest.mark.parametrize("example", ["protocoast", "pangeo"])
def test_the_policy_is_the_same_at_every_run_and_fits_a_config_map(example: str) -> None:
    site = load_site(HERE.parents[2] / "examples" / example / "tidehub.yaml")
    text = extra_config(site)
    assert text == extra_config(site)
    # A ConfigMap holds one MiB, and the same text is in Helm's record of the release.
    assert len(text.encode()) < 200_000
    assert text.isascii() or text.encode().decode() == text
