"""Where values come from, and which of several counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tidehub.errors import Place
from tidehub.site.presets import NAMES, text_of
from tidehub.site.problems import DEFAULT, KeyPath, Problem, SiteError, Source
from tidehub.site.reading.load import Loaded, load, load_preset, load_text
from tidehub.site.reading.sources import path_of, path_of_variable

LIMIT: KeyPath = ("notebooks", "memory", "limit")
VARIABLE = "TIDEHUB__NOTEBOOKS__MEMORY__LIMIT"
GIB = 2**30
ON_A_PRESET = """\
preset: protocoast
notebooks:
  memory: {guarantee: 1 GiB}
site: {name: Mine}
"""


def problems(text: str, **given: Any) -> tuple[Problem, ...]:
    with pytest.raises(SiteError) as caught:
        load_text(text, "site.yaml", **given)
    return caught.value.problems


def test_each_source_beats_the_one_before() -> None:
    def limit(loaded: Loaded) -> tuple[int, str]:
        return loaded.site.notebooks.memory.limit // GIB, str(loaded.source_of(LIMIT))

    text = ON_A_PRESET
    environ = {VARIABLE: "7 GiB", "TIDEHUB_SOFTWARE": "/x"}
    overrides = [("notebooks.memory.limit", "6 GiB")]
    bare = "site: {name: x}\nlogin: {provider: demo, allow: {everyone: true}}\n"
    bare += "notebooks: {profiles: [{name: A, default: true}]}\n"
    assert limit(load_text(bare, "site.yaml")) == (2, "default")
    assert limit(load_text(text, "site.yaml")) == (10, "preset protocoast")
    text = text.replace("1 GiB", "1 GiB, limit: 8 GiB")
    assert limit(load_text(text, "site.yaml")) == (8, "site.yaml:3:37")
    assert limit(load_text(text, "site.yaml", environ=environ)) == (7, f"environment variable {VARIABLE}")
    found = limit(load_text(text, "site.yaml", environ=environ, overrides=overrides))
    assert found == (6, "the command line (--set notebooks.memory.limit)")


def test_a_file_on_a_preset_keeps_what_it_does_not_state() -> None:
    loaded = load_text(ON_A_PRESET, "site.yaml")
    assert loaded.site.site.name == "Mine"
    assert loaded.site.site.url == "https://protocoast.vm.fedcloud.eu"
    assert (loaded.site.notebooks.memory.guarantee, loaded.site.notebooks.memory.limit) == (GIB, 10 * GIB)
    assert loaded.source_of(("site", "url")) == Source("preset", "protocoast")
    assert loaded.source_of(("machine", "port")) == DEFAULT
    assert loaded.source_of(("site", "name")).place == Place("site.yaml", 4, 14)


def test_a_login_replaces_the_presets_whole() -> None:
    # Half of the preset's admission rule left standing would admit strangers.
    login = "login: {provider: egi-check-in, client_id: mine, allow: {users: [ada]}}\n"
    site = load_text(ON_A_PRESET + login, "site.yaml").site
    assert site.login.allow.users == ("ada",)
    assert site.login.allow.groups == ()
    assert site.login.instance is None


def test_lists_replace_and_presets_can_be_chosen_outside() -> None:
    text = "notebooks: {profiles: [{name: One, default: true}]}\n"
    site = load_text(text, "site.yaml", environ={"TIDEHUB__PRESET": "laptop"}).site
    assert [profile.name for profile in site.notebooks.profiles] == ["One"]
    assert load_text(text, "x", overrides=[("preset", "laptop")]).site.site.name == "Tidehub"


def test_a_preset_that_is_none() -> None:
    (first, *_) = problems("preset: labtop\n")
    assert (first.key, first.fix) == ("preset", "did you mean laptop?")
    with pytest.raises(KeyError):
        load_preset("labtop")


@pytest.mark.parametrize("name", NAMES)
def test_presets_are_valid_and_every_value_in_them_says_so(name: str) -> None:
    loaded = load_preset(name)
    assert loaded.site.login.provider in ("demo", "egi-check-in")
    assert loaded.source_of(("site", "name")) == Source("preset", name)
    assert loaded.site.model_copy(update={"preset": None}) == load_text(text_of(name), name).site


@pytest.mark.parametrize(
    ("variable", "value", "key", "words"),
    [
        (VARIABLE, "8", "notebooks.memory.limit", "has no unit"),
        (VARIABLE, "[8", "notebooks.memory.limit", "never closed"),
        ("TIDEHUB__NOTEBOOKS__MEMRY__LIMIT", "8 GiB", "notebooks.memry", "did you mean memory?"),
        ("TIDEHUB__NOTEBOOKS__PROFILES__7__NAME", "x", "notebooks.profiles[7]", "no such entry"),
        ("TIDEHUB__NOTEBOOKS__PROFILES__NAME", "x", "notebooks.profiles.name", "no such entry"),
        ("TIDEHUB__DASK__ENGINE", "gatway", "dask.engine", "did you mean gateway?"),
        ("TIDEHUB__LOGIN__ALLOW__EVERYONE", "yes", "login.allow.everyone", "true or false"),
        ("TIDEHUB__SITE", "3", "site", "a mapping"),
        ("TIDEHUB__", "3", "", "not known"),
        ("TIDEHUB__SITE__", "3", "site.", "not known"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, value: str, key: str, words: str) -> None:
    found = problems(text_of("protocoast"), environ={variable: value})
    matching = [problem for problem in found if words in str(problem)]
    assert matching, "\n".join(map(str, found))
    assert f"environment variable {variable}" in str(matching[0])
    assert matching[0].key == key
    told = matching[0].as_dict()
    assert (told["source"], told["source_name"], told["file"], told["line"]) == (
        "environment",
        variable,
        None,
        None,
    )


def test_values_of_variables_are_read_as_in_the_file() -> None:
    environ = {
        "TIDEHUB__LOGIN__SCOPES": "[openid, entitlements, email]",
        "TIDEHUB__NOTEBOOKS__PROFILES__1__DEFAULT": "false",
        "TIDEHUB__NOTEBOOKS__IDLE_TIMEOUT": "2 h",
        "TIDEHUB__SITE__CONTACT": "",
        "TIDEHUB__MACHINE__PORT": "8443",
        "TIDEHUB__KUBERNETES__CHARTS__DASK_GATEWAY": "2026.3.0",
    }
    site = load_text(text_of("protocoast"), "x", environ=environ).site
    assert site.login.scopes == ("openid", "entitlements", "email")
    assert site.notebooks.idle_timeout == 7200
    assert (site.site.contact, site.machine.port) == (None, 8443)
    assert site.kubernetes is not None
    assert site.kubernetes.charts == {"dask-gateway": "2026.3.0"}


def test_a_contradiction_is_placed_at_the_value_that_was_set_outside() -> None:
    found = problems(text_of("protocoast"), environ={"TIDEHUB__NOTEBOOKS__MEMORY__GUARANTEE": "11 GiB"})
    assert [str(problem.source) for problem in found if problem.severity == "error"] == [
        "environment variable TIDEHUB__NOTEBOOKS__MEMORY__GUARANTEE"
    ]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("notebooks.profiles[0].name", ("notebooks", "profiles", 0, "name")),
        ("notebooks.profiles.0.name", ("notebooks", "profiles", 0, "name")),
        ("site", ("site",)),
        ("a.²", ("a", "²")),
    ],
)
def test_paths(text: str, path: KeyPath) -> None:
    assert path_of(text) == path


def test_paths_of_variables() -> None:
    assert path_of_variable("TIDEHUB__NOTEBOOKS__PROFILES__0__NAME") == ("notebooks", "profiles", 0, "name")
    assert path_of_variable("TIDEHUB__DASK__CLUSTER__MAX_CORES") == ("dask", "cluster", "max_cores")
    assert path_of_variable("TIDEHUB__KUBERNETES__CHARTS__DASK_GATEWAY") == (
        "kubernetes",
        "charts",
        "dask-gateway",
    )


def test_sources_of_a_file_on_disk(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(text_of("protocoast"), encoding="utf-8")
    loaded = load(tmp_path / "s.yaml", environ={})
    place = loaded.source_of(("dask", "cluster", "max_memory")).place
    assert place is not None
    line = text_of("protocoast").splitlines()[place.line - 1]
    assert line[place.column - 1 : place.end_column - 1] == "24 GiB"
