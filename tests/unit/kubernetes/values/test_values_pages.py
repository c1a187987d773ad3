"""The hub's pages in the chart's values: which hubs get them, before which others, how large, and what they say."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import jinja2
import pytest
from jinja2 import meta, nodes
from jsonschema import Draft7Validator
from jupyterhub._data import DATA_FILES_PATH
from value_sites import PLAIN, built, hub_values, schema, site

from tidehub import hub_pages
from tidehub.errors import TidehubError
from tidehub.kubernetes.values.dashboards import PROGRAM
from tidehub.kubernetes.values.hub_pages import FOLDER
from tidehub.site.end_words import end_words

UPSTREAM = Path(DATA_FILES_PATH) / "templates"
NEW = {
    "split": "{model: split}",
    "hub 4.1": "{model: split, charts: {jupyterhub: 3.3.8}}",
    "hub 4.0": "{model: split, charts: {jupyterhub: 3.0.0}}",
    "daskhub": "{model: daskhub}",
}
OLD = {
    "hub 3": "{model: split, charts: {jupyterhub: 2.0.0}}",
    "hub 1.4": "{model: split, charts: {jupyterhub: 1.1.0, dask-gateway: 2022.6.1}}",
    "daskhub 2022.6": "{model: daskhub, charts: {daskhub: 2022.6.0}}",
}
HUB_GIVES = {
    "base_url", "prefix", "user", "login_url", "login_service", "logout_url", "static_url", "version_hash", "services",
    "parsed_scopes", "expanded_scopes", "xsrf",
}  # fmt: skip
"""JupyterHub 4.0 to 5.5, `BaseHandler.template_namespace`."""
PAGE_GIVES = {
    "error.html": {
        "status_code",
        "status_message",
        "message",
        "message_html",
        "extra_error_html",
        "exception",
    },
    "not_running.html": {"failed", "failed_message", "failed_html_message", "server_name"},
    "spawn.html": {"error_message", "error_html_message"},
}
"""What the hub adds for these pages: `BaseHandler.write_error` and handlers/pages.py. `error_html_message` is
JupyterHub 5's."""
OURS = {"site_name", "site_contact", "end_words"}


def overridden(kubernetes: str, hub: dict[str, Any]) -> dict[str, Any]:
    """`hub` of the chart's values, with the operator's own laid over it."""
    more = f"overrides: {json.dumps({'helm': {'jupyterhub': {'hub': hub}}})}\n"
    return dict(hub_values(site(PLAIN, kubernetes, more))["hub"])


# --- which hubs, and before which others -------------------------------------------------------


@pytest.mark.parametrize("kubernetes", NEW.values(), ids=NEW)
def test_the_pages_are_mounted_where_the_hub_looks(kubernetes: str) -> None:
    hub = hub_values(site(PLAIN, kubernetes))["hub"]
    assert hub["templatePaths"] == [FOLDER]
    mounted = {PurePosixPath(file["mountPath"]): file["stringData"] for file in hub["extraFiles"].values()}
    mounted = {path: text for path, text in mounted.items() if path != PurePosixPath(PROGRAM)}
    assert {path.parent for path in mounted} == {PurePosixPath(FOLDER)}
    texts = {path.name: text for path, text in mounted.items()}
    assert texts.items() <= hub_pages.texts().items()
    assert set(hub_pages.texts()) - set(texts) == (set() if "split}" in kubernetes else {"accept-share.html"})
    assert hub["templateVars"] == {
        "site_name": "Coast",
        "site_contact": "help@example.org",
        "end_words": end_words(3600, 0),
    }


@pytest.mark.parametrize("kubernetes", OLD.values(), ids=OLD)
def test_older_hubs_keep_their_own(kubernetes: str) -> None:
    hub = hub_values(site(PLAIN, kubernetes))["hub"]
    assert not {"extraFiles", "templatePaths"} & set(hub)


@pytest.mark.parametrize("kubernetes", [NEW["split"], NEW["daskhub"]])
def test_the_operators_pages_count_before_ours(kubernetes: str) -> None:
    file = {"mountPath": "/etc/mine/login.html", "stringData": "mine"}
    hub = overridden(kubernetes, {"templatePaths": ["/etc/mine"], "extraFiles": {"login.html": file}})
    assert hub["templatePaths"] == ["/etc/mine", FOLDER]
    assert hub["extraFiles"]["login.html"] == file
    assert f"{FOLDER}/login.html" in {one["mountPath"] for one in hub["extraFiles"].values()}


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("tidehub-page-error.html", "/etc/mine/error.html"),
        ("mine", f"{FOLDER}/error.html"),
        ("mine", f"{FOLDER}//more.html"),
        ("mine", FOLDER),
    ],
)
@pytest.mark.parametrize("kubernetes", [NEW["split"], NEW["daskhub"]])
def test_files_in_the_place_of_ours_are_named(kubernetes: str, name: str, path: str) -> None:
    with pytest.raises(TidehubError) as refused:
        overridden(kubernetes, {"extraFiles": {name: {"mountPath": path, "stringData": "x"}}})
    assert "hub.extraFiles" in str(refused.value) and name in str(refused.value)
    assert "hub.templatePaths" in str(refused.value)


@pytest.mark.parametrize("wrong", [{"extraFiles": ["x"]}, {"templatePaths": "/etc/mine"}])
def test_values_of_another_shape_are_left_to_the_charts_schema(wrong: dict[str, Any]) -> None:
    hub = overridden(NEW["split"], wrong)
    assert {name: hub[name] for name in wrong} == wrong
    assert list(Draft7Validator(schema("jupyterhub", "4.4.0")).iter_errors({"hub": hub}))


def test_they_take_little_of_a_release() -> None:
    """Helm keeps a release, gzipped, in a Secret of at most 1 MiB; the chart repeats the values in the hub's Secret."""
    values = built(site(PLAIN, NEW["split"])).releases[0].values
    others = {
        name: file
        for name, file in values["hub"]["extraFiles"].items()
        if not file["mountPath"].startswith(FOLDER)
    }
    without = {**values, "hub": {**values["hub"], "extraFiles": others}}
    sizes = [json.dumps(one).encode() for one in (values, without)]
    assert len(sizes[0]) - len(sizes[1]) < 8 * 1024
    assert len(gzip.compress(sizes[0])) - len(gzip.compress(sizes[1])) < 3 * 1024


# --- what they say -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> jinja2.Environment:
    """The mounted files, looked up as JupyterHub does (`JupyterHub.init_tornado_settings`)."""
    pod = tmp_path_factory.mktemp("pod")
    hub = hub_values(site(PLAIN, NEW["split"]))["hub"]
    for file in hub["extraFiles"].values():
        path = pod / file["mountPath"].removeprefix("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file["stringData"], encoding="utf-8")
    paths = [*(pod / path.removeprefix("/") for path in hub["templatePaths"]), UPSTREAM]
    upstream = jinja2.PrefixLoader({"templates": jinja2.FileSystemLoader([UPSTREAM])}, "/")
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader([upstream, jinja2.FileSystemLoader(paths)]), autoescape=True
    )


@pytest.mark.parametrize("name", hub_pages.texts())
def test_a_page_needs_nothing_that_only_one_target_has(name: str) -> None:
    page = jinja2.Environment().parse(hub_pages.texts()[name])
    own = {node.name for node in page.find_all(nodes.Name) if node.ctx == "store"}
    asked = meta.find_undeclared_variables(page)
    # What is set outside of blocks is known inside of them, which jinja2 does not count.
    assert asked - own <= HUB_GIVES | PAGE_GIVES.get(name, set()) | OURS


ALICE = SimpleNamespace(name="alice", spawner=SimpleNamespace(options_form=""), json_escaped_name="alice")
CONTACT = "Desk <help@example.org> & Co"
ESCAPED = "Questions: Desk &lt;help@example.org&gt; &amp; Co"
GIVEN = {
    "base_url": "/x/hub/", "prefix": "/x/", "user": None, "login_url": "/x/hub/login", "login_service": "EGI",
    "logout_url": "/x/hub/logout", "static_url": lambda *_, **__: "", "version_hash": "1", "services": [],
    "parsed_scopes": [], "expanded_scopes": [], "xsrf": "x", "xsrf_token": "x", "site_name": "Coast & Sea",
}  # fmt: skip
FAILURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "403 of a member": (
        "error.html",
        "Not open to your account",
        {"user": ALICE, "status_code": 403, "status_message": "Forbidden", "message": ""},
    ),
    "403 of nobody": (
        "error.html",
        "No entry",
        {"status_code": 403, "status_message": "Forbidden", "message": "Not authorized"},
    ),
    "404": (
        "404.html",
        "There is nothing at this address",
        {"user": ALICE, "status_code": 404, "status_message": "Not Found", "message": ""},
    ),
    "500": (
        "error.html",
        "Something went wrong",
        {"status_code": 500, "status_message": "Internal", "message": ""},
    ),
    "start that failed": (
        "not_running.html",
        "Your server is not running",
        {"user": ALICE, "server_name": "", "failed": True, "failed_message": "a < b", "spawn_url": "/s"},
    ),
    "form refused": (
        "spawn.html",
        "Choose your environment",
        {"user": ALICE, "for_user": ALICE, "error_message": "a < b", "spawner_options_form": "", "url": "/s"},
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_every_failure_says_whom_to_ask(pages: jinja2.Environment, failure: str) -> None:
    name, title, given = FAILURES[failure]
    page = pages.get_template(name).render({**GIVEN, "site_contact": CONTACT, **given})
    found = re.search(r"<title>\s*(.*?)\s*</title>", page, re.DOTALL)
    assert found is not None
    assert found[1] == f"{title} – Coast &amp; Sea"
    assert page.count(ESCAPED) == 1
    assert CONTACT not in page
    assert "a < b" not in page


@pytest.mark.parametrize("failure", FAILURES)
def test_without_a_contact_nothing_is_said_of_one(pages: jinja2.Environment, failure: str) -> None:
    name, _, given = FAILURES[failure]
    assert "Questions" not in pages.get_template(name).render({**GIVEN, **given})


@pytest.mark.parametrize("name", ["not_running.html", "spawn.html"])
def test_a_contact_in_the_reason_is_not_repeated(pages: jinja2.Environment, name: str) -> None:
    reason = f"This is not yours. Questions: {CONTACT}"
    given = next(more for page, _, more in FAILURES.values() if page == name)
    words = {key: reason for key in ("failed_message", "error_message") if key in given}
    page = pages.get_template(name).render({**GIVEN, "site_contact": CONTACT, **given, **words})
    assert page.count(ESCAPED) == 1


def test_without_a_failure_these_pages_name_no_contact(pages: jinja2.Environment) -> None:
    for name, given in (("not_running.html", {"failed": False}), ("spawn.html", {"error_message": ""})):
        whole = next(more for page, _, more in FAILURES.values() if page == name)
        page = pages.get_template(name).render({**GIVEN, "site_contact": CONTACT, **whole, **given})
        assert "Questions" not in page
