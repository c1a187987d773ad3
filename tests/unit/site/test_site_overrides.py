"""`overrides:`: Helm values by chart and Python for hub and gateway; checked, shown, handed on unchanged."""

from __future__ import annotations

import pytest

from tidehub.site import SiteError
from tidehub.site.model import Site
from tidehub.site.model.overrides import python_fault, used
from tidehub.site.reading.load import Loaded, load_text

BASE = """
site: {name: X}
login: {provider: demo, allow: {everyone: true}}
notebooks: {profiles: [{name: A, default: true, image: "a/b:1"}]}
kubernetes: {model: MODEL}
overrides:
"""


def load(text: str, model: str = "split") -> Loaded:
    return load_text(BASE.replace("MODEL", model) + text, "site.yaml")


def about_overrides(loaded: Loaded) -> list[str]:
    return [str(one) for one in loaded.warnings if one.path[:1] == ("overrides",)]


def refusal(text: str, model: str = "split") -> str:
    with pytest.raises(SiteError) as caught:
        load(text, model)
    return str(caught.value)


def test_values_are_handed_on_unchanged() -> None:
    overrides = load(
        "  helm:\n    jupyterhub: {hub: {resources: {requests: {cpu: 1}}, labels: {a: 'yes'}}}\n"
        "    dask-gateway: {gateway: {loglevel: DEBUG}}\n"
    ).site.overrides
    assert overrides is not None
    assert overrides.helm.of("jupyterhub") == {
        "hub": {"resources": {"requests": {"cpu": 1}}, "labels": {"a": "yes"}}
    }
    assert overrides.helm.of("dask-gateway") == {"gateway": {"loglevel": "DEBUG"}}
    assert overrides.helm.of("daskhub") == {}


def test_used_overrides_are_shown() -> None:
    said = about_overrides(
        load(
            "  helm: {jupyterhub: {hub: {a: 1, b: [2, 3]}}}\n  hub_config: |\n    c.X.y = 1\n\n    c.X.z = 2\n"
        )
    )
    assert said == [
        (
            "site.yaml:7:28: warning: overrides.helm.jupyterhub.hub: 3 values laid over the generated values of the "
            "chart jupyterhub; one machine does not use this"
        ),
        "site.yaml:8:15: warning: overrides.hub_config: 2 lines of Python run at the end of the hub's configuration",
    ]


def test_an_empty_section_says_nothing() -> None:
    assert about_overrides(load("  helm: {}\n")) == []


def test_root_keys_of_another_chart_are_told() -> None:
    said = " ".join(about_overrides(load("  helm: {jupyterhub: {gateway: {a: 1}, singelusr: {}}}\n")))
    assert "it is a key of the chart dask-gateway" in said
    assert "did you mean singleuser?" in said


def test_daskhub_needs_its_model() -> None:
    assert "not installed by the model split" in refusal("  helm: {daskhub: {rbac: {enabled: true}}}\n")
    assert load("  helm: {daskhub: {rbac: {enabled: true}}}\n", "daskhub").site.overrides is not None


def test_values_of_a_chart_inside_daskhub_have_their_own_place() -> None:
    assert "move them to overrides.helm.jupyterhub" in refusal(
        "  helm: {daskhub: {jupyterhub: {a: 1}}}\n", "daskhub"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("  helm: {jupyterhub: text}\n", "these are not Helm values"),
        ("  helm: {dask-gateway: [1]}\n", "these are not Helm values"),
        ("  helm: {jupyterhb: {}}\n", "did you mean jupyterhub"),
        ("  helm: {dask_gatway: {}}\n", "dask-gateway"),
        ("  hub_config: [1]\n", "not Python code"),
        ("  hub_config: 7\n", "not Python code"),
        ("  hub_config: |\n    c.X = (1\n", "the Python code is wrong: '(' was never closed, line 1 of it"),
        ("  gateway_config: |\n    a = 1\n    if a\n", "line 2 of it"),
        ("  hub_config: 'return 1'\n", "'return' outside function"),
        ("  hub: {}\n", "this key is not known"),
        ("  text\n", "a mapping"),
    ],
)
def test_what_cannot_be(text: str, words: str) -> None:
    assert words in refusal(text)


@pytest.mark.parametrize(
    "code",
    [
        "x = " + "(" * 5000 + ")" * 5000,
        "x = " + "-" * 100_000 + "1",
        "x" * 10,
        "a = 1\0",
        "\ud800",
        "if 1 is 1: pass",
        "x = '\\d'",
    ],
)
def test_code_is_checked_without_a_traceback_or_a_warning(
    code: str, recwarn: pytest.WarningsRecorder
) -> None:
    fault = python_fault(code)
    assert fault is None or fault
    assert list(recwarn) == []


def test_code_is_not_executed() -> None:
    assert python_fault("raise SystemExit(1)") is None


def test_a_site_with_overrides_survives_json() -> None:
    site = load("  helm: {dask-gateway: {gateway: {a: [1, {b: null}]}}}\n  hub_config: 'c.X.y = 1'\n").site
    assert Site.model_validate_json(site.model_dump_json()) == site


def test_nothing_is_used_where_nothing_is_stated() -> None:
    overrides = load("  gateway_config: 'c.X.y = 1'\n").site.overrides
    assert overrides is not None
    assert used(overrides) == [
        (("overrides", "gateway_config"), "1 line of Python run at the end of dask-gateway's configuration")
    ]
