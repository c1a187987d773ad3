"""Every mutation of one good site file ends in a message with its place, never in a traceback."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidehub.errors import USAGE, Place
from tidehub.site.problems import Problem, SiteError
from tidehub.site.reading.files import LARGEST_FILE
from tidehub.site.reading.load import load, load_site, load_text

GOOD = """\
site:
  name: Coast
  url: https://coast.example.org/jupyterhub/
login:
  provider: egi-check-in
  instance: demo
  client_id: coast-hub
  scopes: [openid, entitlements]
  allow:
    groups: ["urn:mace:egi.eu:group:vo.example.eu:role=member"]
notebooks:
  cpu: {guarantee: 1, limit: 2}
  memory: {guarantee: 1 GiB, limit: 2 GiB}
  idle_timeout: 1 h
  profiles:
    - name: Main
      default: true
      image: quay.io/example/notebook:v1
    - name: Develop
dask:
  worker:
    cores: {min: 1, max: 2, default: 1}
    memory: {min: 1 GiB, max: 2 GiB, default: 1 GiB}
  cluster: {max_workers: 3, max_cores: 7, max_memory: 8 GiB, idle_timeout: 20 min}
  per_user: {max_clusters: 2}
machine:
  port: 8443
"""


NO_ADMIN = "login.admins"
"""What is said of every site here: none names administrators."""


def refused(text: str) -> tuple[Problem, ...]:
    with pytest.raises(SiteError) as caught:
        load_text(text, "site.yaml", base=Path("/nowhere"))
    assert caught.value.exit_code == USAGE
    assert "Traceback" not in str(caught.value)
    return tuple(problem for problem in caught.value.problems if problem.key != NO_ADMIN)


def mutated(old: str, new: str) -> str:
    assert GOOD.count(old) >= 1, old
    return GOOD.replace(old, new, 1)


def test_the_unmutated_file_is_good() -> None:
    loaded = load_text(GOOD, "site.yaml")
    assert [problem.key for problem in loaded.warnings] == [NO_ADMIN]
    named = GOOD.replace("  allow:", "  admins: {users: [ann]}\n  allow:")
    assert load_text(named, "site.yaml").warnings == ()
    assert loaded.site.notebooks.memory.limit == 2 * 2**30
    assert loaded.site.dask.cluster.idle_timeout == 1200.0
    assert loaded.site.base_path == "/jupyterhub/"
    assert loaded.places["notebooks", "profiles", 1, "name"] == Place("site.yaml", 19, 13)


# (what to replace, with what, the key named, the line named, words of the message)
MUTATIONS = [
    # Unknown keys, with the nearest known one
    ("name: Coast", "nam: Coast", "site.nam", 2, "did you mean name?"),
    ("provider:", "providers:", "login.providers", 5, "did you mean provider?"),
    ("idle_timeout: 1 h", "idle-timeout: 1 h", "notebooks.idle-timeout", 14, "did you mean idle_timeout?"),
    ("notebooks:", "notebook:", "notebook", 11, "did you mean notebooks?"),
    ("machine:", "orphan_grace: 5 min\nmachine:", "orphan_grace", 26, "dask.cluster.orphan_grace"),
    ("port: 8443", "port: 8443\n  zzz: 1", "machine.zzz", 28, "known here: address"),
    ("max_clusters: 2", "clusters_max: 2", "dask.per_user.clusters_max", 25, "did you mean max_clusters?"),
    (
        "client_id: coast-hub",
        "client_id: coast-hub\n  client_secret: hunter2",
        "login.client_secret",
        8,
        "remove it",
    ),
    # Missing keys
    ("  name: Coast\n", "", "site.name", 2, "is missing"),
    ("  provider: egi-check-in\n", "", "login.provider", 5, "is missing"),
    ("  allow:\n    groups: [", "  admins:\n    groups: [", "login.allow", 5, "is missing"),
    (", max_cores: 7", "", "dask.cluster.max_cores", 24, "is missing"),
    ("limit: 2}", "}", "notebooks.cpu.limit", 12, "is missing"),
    ("    - name: Develop", "    - description: x", "notebooks.profiles[1].name", 19, "is missing"),
    (", default: 1 GiB}", "}", "dask.worker.memory.default", 23, "is missing"),
    # Wrong kinds
    ("name: Coast", "name: 2024", "site.name", 2, "quote it"),
    ("name: Coast", "name: [a]", "site.name", 2, "found a list"),
    ("name: Coast", "name:", "site.name", 2, "found nothing"),
    ("name: Coast", "name: ''", "site.name", 2, "some text"),
    ("name: Coast", 'name: "a\\nb"', "site.name", 2, "line break"),
    ("name: Coast", f"name: {'x' * 300}", "site.name", 2, "at most 255 characters"),
    ("default: true", "default: yes", "notebooks.profiles[0].default", 17, "true or false"),
    ("default: true", "default: 1", "notebooks.profiles[0].default", 17, "true or false"),
    ("[openid, entitlements]", "openid", "login.scopes", 8, "a list"),
    ("{guarantee: 1, limit: 2}", "2", "notebooks.cpu", 12, "a mapping"),
    ("port: 8443", "port: '8443'", "machine.port", 27, "a whole number"),
    ("port: 8443", "port: 84.5", "machine.port", 27, "a whole number"),
    ("port: 8443", "port: 70000", "machine.port", 27, "at most 65535"),
    ("port: 8443", "port: -1", "machine.port", 27, "at least 0"),
    ("max_workers: 3", "max_workers: 0", "dask.cluster.max_workers", 24, "at least 1"),
    ("max_clusters: 2", "max_clusters: true", "dask.per_user.max_clusters", 25, "a whole number"),
    # Choices
    ("egi-check-in", "egi-checkin", "login.provider", 5, "did you mean egi-check-in?"),
    ("instance: demo", "instance: prod", "login.instance", 6, "'production', 'demo' or 'development'"),
    ("  worker:\n", "  engine: gatway\n  worker:\n", "dask.engine", 21, "did you mean gateway?"),
    # Quantities
    ("guarantee: 1 GiB", "guarantee: 1", "notebooks.memory.guarantee", 13, "has no unit"),
    ("guarantee: 1 GiB", "guarantee: 1G", "notebooks.memory.guarantee", 13, "ambiguous"),
    ("guarantee: 1 GiB", "guarantee: -1 GiB", "notebooks.memory.guarantee", 13, "negative"),
    ("guarantee: 1 GiB", "guarantee: 0 GiB", "notebooks.memory.guarantee", 13, "more than 0"),
    ("guarantee: 1 GiB", "guarantee: 1073741824", "notebooks.memory.guarantee", 13, "write 1073741824 B"),
    ("guarantee: 1 GiB", "guarantee: [1 GiB]", "notebooks.memory.guarantee", 13, "not a size"),
    ("guarantee: 1 GiB", "guarantee: true", "notebooks.memory.guarantee", 13, "not a size"),
    ("idle_timeout: 1 h", "idle_timeout: 3600", "notebooks.idle_timeout", 14, "write 3600 min or 3600 s"),
    ("idle_timeout: 1 h", "idle_timeout: 0 s", "notebooks.idle_timeout", 14, "write never"),
    ("idle_timeout: 1 h", "idle_timeout: soon", "notebooks.idle_timeout", 14, "not a duration"),
    ("cpu: {guarantee: 1,", "cpu: {guarantee: 0,", "notebooks.cpu.guarantee", 12, "more than 0"),
    ("cpu: {guarantee: 1,", "cpu: {guarantee: 1 GiB,", "notebooks.cpu.guarantee", 12, "not a unit of cores"),
    ("cores: {min: 1,", "cores: {min: 0.5,", "dask.worker.cores.min", 22, "whole number of cores"),
    # Addresses
    ("https://coast.example.org/jupyterhub/", "coast.example.org", "site.url", 3, "not a web address"),
    ("https://coast.example.org/jupyterhub/", "https://a:b@c.org/", "site.url", 3, "user name or password"),
    ("https://coast.example.org/jupyterhub/", "https://c.org/?x=1", "site.url", 3, "a query"),
    ("https://coast.example.org/jupyterhub/", "https://c.org:99999/", "site.url", 3, "not an address"),
    ("https://coast.example.org/jupyterhub/", "https://c.org/a b/", "site.url", 3, "base path"),
    ("https://coast.example.org/jupyterhub/", "https://c.org/a/../b/", "site.url", 3, "goes up"),
    (
        "https://coast.example.org/jupyterhub/",
        "https://c.org/x/hub/oauth_callback",
        "site.url",
        3,
        "write https://c.org/x/",
    ),
    ("https://coast.example.org/jupyterhub/", "http://c.org/", "site.url", 3, "plain http"),
    # What no schema sees
    (
        "guarantee: 1 GiB, limit: 2 GiB",
        "guarantee: 3 GiB, limit: 2 GiB",
        "notebooks.memory.guarantee",
        13,
        "at most 2 GiB",
    ),
    (
        "guarantee: 1, limit: 2}",
        "guarantee: 4, limit: 2}",
        "notebooks.cpu.guarantee",
        12,
        "more than the limit 2 cores",
    ),
    ("name: Develop", "name: main", "notebooks.profiles[1].name", 19, "two profiles are called"),
    ("name: Develop", "name: Main!", "notebooks.profiles[1].name", 19, "short name 'main'"),
    (
        "name: Develop",
        "name: Develop\n      default: true",
        "notebooks.profiles[1].default",
        20,
        "second default",
    ),
    ("default: true", "default: false", "notebooks.profiles", 16, "no profile is the default"),
    (
        "name: Develop",
        "name: Develop\n      packages: ['-e /etc']",
        "notebooks.profiles[1].packages[0]",
        20,
        "Python requirement",
    ),
    (
        "name: Develop",
        "name: Develop\n      lock: gone.lock",
        "notebooks.profiles[1].lock",
        20,
        "gone.lock does not exist",
    ),
    ("max: 2, default: 1}", "max: 2, default: 3}", "dask.worker.cores.default", 22, "1 core to 2 cores"),
    ("{min: 1, max: 2,", "{min: 3, max: 2,", "dask.worker.cores.min", 22, "more than the largest"),
    (
        "max_memory: 8 GiB",
        "max_memory: 512 MiB",
        "dask.cluster.max_memory",
        24,
        "scheduler alone takes 1 GiB",
    ),
    ("max_cores: 7", "max_cores: 1", "dask.cluster.max_cores", 24, "one default worker"),
    ("max_cores: 7", "max_cores: 2", "dask.cluster.max_cores", 24, "no cluster can have (2 cores and 1 GiB"),
    ("max_memory: 8 GiB", "max_memory: 2.5 GiB", "dask.cluster.max_memory", 24, "the scheduler takes 1 GiB"),
    (
        'groups: ["urn:mace:egi.eu:group:vo.example.eu:role=member"]',
        "users: []",
        "login.allow",
        10,
        "no user may enter",
    ),
    ("vo.example.eu:role=member", "vo.example.eu:role=", "login.allow.groups[0]", 10, "its role is empty"),
    (
        '["urn:mace:egi.eu:group:vo.example.eu:role=member"]',
        "[vo.example.eu]",
        "login.allow.groups[0]",
        10,
        "urn:",
    ),
    ("  allow:\n", "  allow:\n    everyone: true\n", "login.allow.everyone", 10, "yet users or groups"),
    ("[openid, entitlements]", "[entitlements]", "login.scopes", 8, "openid is missing"),
    ("[openid, entitlements]", "[openid]", "login.scopes", 8, "no scope is asked for"),
    ("client_id: coast-hub", "client_id: <CLIENT_ID>", "login.client_id", 7, "placeholder"),
    ("  client_id: coast-hub\n", "", "login", 5, "client_id is missing"),
    ("  url: https://coast.example.org/jupyterhub/\n", "", "site", 2, "which is missing"),
    ("provider: egi-check-in", "provider: demo", "login.provider", 5, "--demo-login"),
    ("provider: egi-check-in\n  instance: demo", "provider: oidc", "login", 5, "needs an issuer"),
    ("instance: demo", "issuer: https://aai-demo.egi.eu/oidc/", "login.issuer", 6, "switched off in 2022"),
    (
        "instance: demo",
        "issuer: https://aai-demo.egi.eu/auth/realms/egi",
        "login.issuer",
        6,
        "production instance",
    ),
    ("port: 8443", "address: 0.0.0.0", "machine.address", 27, "open to the network"),
    ("port: 8443", "address: hub.local", "machine.address", 27, "not an address"),
    ("port: 8443", "trusted_proxies: [0.0.0.0/0]", "machine.trusted_proxies[0]", 27, "from anyone"),
    ("port: 8443", "trusted_proxies: [proxy]", "machine.trusted_proxies[0]", 27, "not an address"),
    ("port: 8443", "database_url: mysql://x/y", "machine.database_url", 27, "not a PostgreSQL address"),
    (
        "machine:",
        "kubernetes: {charts: {daskhub: 2022.6.0}}\nmachine:",
        "kubernetes.charts.daskhub",
        26,
        "not installed",
    ),
    (
        "machine:",
        "kubernetes: {charts: {nginx: 1.0.0}}\nmachine:",
        "kubernetes.charts.nginx",
        26,
        "jupyterhub",
    ),
    ("machine:", "kubernetes: {namespace: Dask_Hub}\nmachine:", "kubernetes.namespace", 26, "form"),
    ("machine:", "infrastructure: {dns: {host: localhost}}\nmachine:", "infrastructure.dns.host", 26, "form"),
    # YAML itself
    ("  name: Coast\n", "  name: Coast\n  name: Shore\n", "site.name", 3, "a second time"),
    ("  name: Coast", "\tname: Coast", "", 2, "a tab indents"),
    ("  name: Coast", "  name: Coast: x", "", 2, "a second ':'"),
    ("  name: Coast", "  name: 'Coast", "", 2, "the ' that opens here is never closed"),
    ("  name: Coast", "  name: @Coast", "", 2, "'@' cannot start"),
    ("  name: Coast", "  name: *Coast", "", 2, "not defined above"),
    ("  name: Coast", "  name: !!python/object:os.system Coast", "", 2, "the tag"),
    ("  name: Coast", " name: Coast", "", 3, "does not fit"),
    ("machine:", "---\nmachine:", "", 26, "second document"),
    ("  name: Coast", "  ? [a]\n  : b\n  name: Coast", "site", 2, "plain text"),
    ("  name: Coast", "  <<: 3\n  name: Coast", "site", 2, "<< takes a mapping"),
    ("  name: Coast", "  name: Co\x07ast", "", 2, "not allowed"),
]


@pytest.mark.parametrize(("old", "new", "key", "line", "words"), MUTATIONS)
def test_a_mutated_site_is_refused_in_words_at_its_place(
    old: str, new: str, key: str, line: int, words: str
) -> None:
    problems = refused(mutated(old, new))
    matching = [problem for problem in problems if words in str(problem) and problem.key == key]
    assert matching, "\n".join(map(str, problems))
    assert matching[0].where is not None
    assert (matching[0].where.file, matching[0].where.line) == ("site.yaml", line), str(matching[0])
    assert matching[0].where.column > 0


def test_the_table_is_as_large_as_promised() -> None:
    assert len(MUTATIONS) >= 60


def test_all_problems_come_in_one_run_and_in_file_order() -> None:
    text = GOOD.replace("name: Coast", "nam: Coast").replace("limit: 2 GiB", "limit: 2")
    text = text.replace("max_cores: 7", "max_cores: 1").replace("port: 8443", "port: high")
    problems = refused(text)
    assert [problem.key for problem in problems] == [
        "site.nam",
        "notebooks.memory.limit",
        "dask.cluster.max_cores",
        "machine.port",
    ]
    text = text.replace("nam: Coast", "name: Coast").replace("limit: 2}", "limit: 2}", 1)
    text = text.replace("limit: 2}\n  idle", "limit: 2 GiB}\n  idle")
    # Contradictions in sections that are well formed are reported beside the wrong values of others.
    assert [problem.key for problem in refused(text)] == ["dask.cluster.max_cores", "machine.port"]


def test_a_message_has_place_key_expectation_and_remedy() -> None:
    with pytest.raises(SiteError) as caught:
        load_text(mutated("guarantee: 1 GiB", "guarantee: 5"), "site.yaml")
    first, *others = str(caught.value).splitlines()
    assert first == "site.yaml: the site file cannot be used (1 error)"
    assert others == [
        "site.yaml:5:3: warning: login.admins: nobody is administrator: no user can see or stop others' servers",
        "  expected: users: [...] or groups: [...]",
        "  to do: name who administers the hub; or write, where nobody should: admins: {users: []}",
        "site.yaml:13:23: notebooks.memory.guarantee: 5 has no unit",
        "  expected: a size with a unit, such as 5 GiB or 500 MiB",
        "  to do: write 5 GiB or 5 MiB",
    ]
    assert caught.value.problems[1].as_dict()["line"] == 13


def test_a_secret_in_the_wrong_file_is_not_repeated() -> None:
    problems = refused(mutated("client_id: coast-hub", "client_id: coast-hub\n  client_secret: hunter2"))
    assert "hunter2" not in "".join(map(str, problems))


def test_warnings_do_not_refuse() -> None:
    loaded = load_text(mutated("notebook:v1", "notebook:latest"), "site.yaml")
    assert [(problem.key, problem.severity) for problem in loaded.warnings] == [
        (NO_ADMIN, "warning"),
        ("notebooks.profiles[0].image", "warning"),
    ]
    assert (
        load_text(mutated("notebook:v1", "notebook"), "site.yaml").warnings[1].what.endswith("without notice")
    )


def test_anchors_and_merge_keys_work() -> None:
    text = GOOD.replace("- name: Main", "- &main\n      name: Main")
    text = text.replace("- name: Develop", "- {<<: *main, name: Develop, default: false}")
    site = load_text(text, "site.yaml").site
    assert site.notebooks.profiles[1].image == site.notebooks.profiles[0].image
    assert site.notebooks.profiles[1].name == "Develop"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty"),
        ("# only a comment\n", "the file is empty"),
        ("null", "the file is empty"),
        ("- a\n- b\n", "not a site file"),
        ("just text", "not a site file"),
        ("%YAML 1.1\n---\n- a", "not a site file"),
        ("{" * 3000, "levels deep"),
        ("[" * 10_000, "levels deep"),
        ("a: 1\n" + "!" * 900_000, "longer than 20000 characters"),
        ("a: " + "[" * 50 + "]" * 50, "levels deep"),
        ("x:\n" + "- 1\n" * 30_000, "more than 20000 values"),
        ("a: &a [1,1,1,1,1,1,1,1,1,1]\n"
         + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 10)}]\n" for i in range(9)),
         "more than 20000 values"),
        ("a: &a {" + ", ".join(f"k{i}: 1" for i in range(2000)) + "}\nb:\n" + "- {<<: *a}\n" * 3000,
         "more than 20000 values"),
        ("a: &a [*a]", "not defined above"),
    ],
)  # fmt: skip
def test_files_that_are_no_site(text: str, words: str) -> None:
    assert any(words in str(problem) for problem in refused(text))


def test_a_big_scalar_and_many_comments_are_read_without_delay() -> None:
    refused("x: |\n" + "  yyyyyyyyy\n" * 80_000)
    assert load_text("# x\n" * 100_000 + GOOD, "site.yaml").site.site.name == "Coast"


def test_line_ends_and_byte_order_marks_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert load_site(path).site.name == "Coast"


def write(directory: Path, content: bytes) -> Path:
    path = directory / "site.yaml"
    path.write_bytes(content)
    return path


def said(path: Path) -> str:
    with pytest.raises(SiteError) as caught:
        load_site(path)
    return str(caught.value.problems[0])


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "the file does not exist" in said(tmp_path / "missing.yaml")
    assert "the file does not exist" in said(tmp_path / "missing" / "site.yaml")
    assert "a directory" in said(tmp_path)
    assert "cannot be read" in said(tmp_path / "null\0byte")
    assert "larger than 1 MiB" in said(write(tmp_path, b"#" * (LARGEST_FILE + 1)))
    assert "larger than 1 MiB" in said(write(tmp_path, b"a: b\n" * 1_100_000))
    assert "UTF-16" in said(write(tmp_path, "site: {}".encode("utf-16")))
    assert ":2:5: the byte 0xff is not UTF-8" in said(write(tmp_path, b"a: 1\nb\xc3\xa9: \xff\n"))
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in said(tmp_path / "pipe")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert "cannot be read" in said(loop)


def test_a_symbolic_link_is_followed(tmp_path: Path) -> None:
    write(tmp_path, GOOD.encode())
    (tmp_path / "link.yaml").symlink_to("site.yaml")
    assert load_site(tmp_path / "link.yaml").site.name == "Coast"


def test_an_unreadable_file_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, GOOD.encode())

    def denied(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tidehub.site.reading.files.os.open", denied)
    assert "Permission denied" in said(path)


def test_file_names_start_from_the_site_file(tmp_path: Path) -> None:
    (tmp_path / "env.lock").write_text("xarray==2026.1.0\n")
    text = mutated("name: Develop", "name: Develop\n      lock: env.lock")
    text = text.replace("port: 8443", "tls: {certificate: cert.pem, key: /etc/key.pem}")
    site = load_site(write(tmp_path, text.encode()))
    assert site.notebooks.profiles[1].lock == str(tmp_path / "env.lock")
    assert site.machine.tls is not None
    assert (site.machine.tls.certificate, site.machine.tls.key) == (
        str(tmp_path / "cert.pem"),
        "/etc/key.pem",
    )


def test_overrides_are_checked_like_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.encode())
    overrides = [("machine.port", 9000), ("notebooks.memory.limit", "3 GiB"), ("hub.database.size", "2 GiB")]
    site = load_site(path, overrides=overrides)
    assert (site.machine.port, site.notebooks.memory.limit, site.hub.database.size) == (
        9000,
        3 * 2**30,
        2**31,
    )
    assert (
        load_site(path, overrides=[("notebooks.profiles.1.name", "Next")]).notebooks.profiles[1].name
        == "Next"
    )
    with pytest.raises(SiteError) as caught:
        load_site(path, overrides=[("machine.port", "x"), ("machine.prot", 1)])
    assert {str(problem.where) for problem in caught.value.problems if problem.key != NO_ADMIN} == {
        "the command line (--set machine.port)",
        "the command line (--set machine.prot)",
    }


def test_load_says_where_each_key_stands(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.encode())
    loaded = load(path)
    assert loaded.places["dask", "cluster", "max_memory"] == Place(str(path), 24, 55)
    assert ("dask", "scheduler", "cores") not in loaded.places


def test_a_file_of_something_else_is_refused_shortly_and_soon() -> None:
    with pytest.raises(SiteError) as caught:
        load_text("".join(f"key{index}:\n  a: 1\n" for index in range(3000)), "site.yaml")
    assert len(caught.value.problems) > 3000
    assert str(caught.value).count("\n") < 200
    assert str(caught.value).endswith("more")


PIECES = st.sampled_from(
    [
        *GOOD.split("\n"),
        ": ",
        "- ",
        "  ",
        "{",
        "}",
        "[",
        "]",
        "&a ",
        "*a",
        "<<: ",
        "null",
        "1e999",
        "\t",
        "|",
        "'",
        "?",
    ]
)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=300)
@given(st.lists(PIECES, max_size=30).map("\n".join) | st.text(max_size=200))
def test_no_text_makes_the_loader_fail_otherwise(text: str) -> None:
    try:
        load_text(text, "site.yaml")
    except SiteError as error:
        assert error.problems
        assert str(error)


@settings(max_examples=150)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 12), st.text(max_size=6))
def test_no_damage_to_a_good_file_makes_the_loader_fail_otherwise(start: int, length: int, put: str) -> None:
    try:
        load_text(GOOD[:start] + put + GOOD[start + length :], "site.yaml")
    except SiteError as error:
        assert all(problem.where is not None for problem in error.problems)
