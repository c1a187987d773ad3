"""validate, explain, limits, schema and init, as a user or a CI job calls them."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest

from tidehub.cli import main
from tidehub.site.presets import NAMES, text_of

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = {"protocoast": "protocoast", "pangeo": "egi-pangeo"}


class Told(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Tidehub = Callable[..., Told]


@pytest.fixture
def tidehub(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Tidehub:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("TIDEHUB_")]:
        monkeypatch.delenv(name)

    def run(*words: str | Path) -> Told:
        code = main.run([str(word) for word in words])
        shown = capsys.readouterr()
        assert "Traceback" not in shown.out + shown.err
        return Told(code, shown.out, shown.err)

    return run


@pytest.fixture
def protocoast(tmp_path: Path) -> Path:
    path = tmp_path / "tidehub.yaml"
    path.write_text(text_of("protocoast"), encoding="utf-8")
    return path


@pytest.mark.parametrize(("example", "preset"), EXAMPLES.items())
def test_examples_are_their_presets_byte_for_byte(example: str, preset: str) -> None:
    # The fix for a difference: cp src/tidehub/site/presets/PRESET.yaml examples/EXAMPLE/tidehub.yaml
    written = (ROOT / "examples" / example / "tidehub.yaml").read_bytes()
    assert written == (ROOT / "src" / "tidehub" / "site" / "presets" / f"{preset}.yaml").read_bytes()


# --- validate -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_are_valid_without_a_warning(tidehub: Tidehub, example: str) -> None:
    file = ROOT / "examples" / example / "tidehub.yaml"
    told = tidehub("validate", file)
    assert (told.code, told.err) == (0, "")
    assert told.out.splitlines()[-1] == f"{file} is valid: no errors, no warnings"
    assert tidehub("validate", file, "--strict").code == 0


def test_the_two_core_trap_is_told_with_numbers(tidehub: Tidehub, protocoast: Path) -> None:
    told = tidehub("validate").out
    assert "3 workers are allowed, but not of every size" in told
    assert "2 cores and 4 GiB: 1 (dask.cluster.max_cores)" in told


def test_the_seeds_two_figures_are_told_with_numbers(tidehub: Tidehub, protocoast: Path) -> None:
    text = protocoast.read_text().replace("max_memory: 24 GiB", 'max_memory: "16 GiB (25,769,803,776 bytes)"')
    protocoast.write_text(text)
    told = tidehub("validate")
    assert told.code == 2
    assert "16 GiB are 17,179,869,184 bytes, and 25,769,803,776 bytes are 24 GiB" in told.out
    with_16 = tidehub("validate", "--set", "dask.cluster.max_memory=16 GiB").out
    assert "1 core and 6 GiB: 2 (dask.cluster.max_memory)" in with_16


def test_a_small_change_is_well(tidehub: Tidehub, protocoast: Path) -> None:
    told = tidehub("validate", "--set", "dask.cluster.max_cores=7", "--strict")
    assert told == Told(0, "tidehub.yaml is valid: no errors, no warnings\n", "")


def test_a_login_that_leaves_out_what_its_preset_has_is_told_why(tidehub: Tidehub, tmp_path: Path) -> None:
    (tmp_path / "tidehub.yaml").write_text("preset: laptop\nlogin: {block: [tom]}\n")
    told = tidehub("validate")
    assert told.code == 2 and "login.allow: this key is missing" in told.out
    assert "write all of login here: this section replaces the preset's as a whole" in told.out


SHAPE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["version", "file", "ok", "errors", "warnings", "problems"],
    "properties": {
        "version": {"const": 1},
        "file": {"type": "string"},
        "ok": {"type": "boolean"},
        "errors": {"type": "integer"},
        "warnings": {"type": "integer"},
        "problems": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": [
                    "severity", "key", "path", "file", "line", "column", "end_line", "end_column", "source",
                    "source_name", "what", "expected", "fix",
                ],
                "properties": {
                    "severity": {"enum": ["error", "warning", "note"]},
                    "key": {"type": "string"},
                    "path": {"type": "array", "items": {"type": ["string", "integer"]}},
                    "file": {"type": ["string", "null"]},
                    **{
                        name: {"type": ["integer", "null"], "minimum": 1}
                        for name in ("line", "column", "end_line", "end_column")
                    },
                    "source": {"enum": ["file", "preset", "environment", "command line", "default"]},
                    "source_name": {"type": ["string", "null"]},
                    "what": {"type": "string", "minLength": 3},
                    "expected": {"type": ["string", "null"]},
                    "fix": {"type": ["string", "null"]},
                },
            },
        },
    },
}  # fmt: skip
"""The promise to editors and CI: `validate --json` of version 1."""


def test_json_keeps_its_shape_in_all_cases(
    tidehub: Tidehub, protocoast: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEHUB__NOTEBOOKS__CPU__LIMIT", "two")
    for change in (
        {},
        {"limit: 10 GiB": "limit: 10"},
        {"site:": "\tsite:"},
        {"limit: 2}": "limit: 2"},
        {"nam": "\x07"},
    ):
        text = text_of("protocoast")
        for old, new in change.items():
            text = text.replace(old, new, 1)
        protocoast.write_text(text)
        told = tidehub("validate", "--json", "--set", "machine.port=x")
        assert (told.code, told.err) == (2, "")
        jsonschema.validate(told.json, SHAPE)
        assert told.json["problems"]
    jsonschema.validate(tidehub("validate", "gone.yaml", "--json").json, SHAPE)


def test_json_says_the_place_from_and_to(tidehub: Tidehub, protocoast: Path) -> None:
    protocoast.write_text(text_of("protocoast").replace("limit: 10 GiB", "limit: 10"))
    (problem,) = [one for one in tidehub("validate", "--json").json["problems"] if one["severity"] == "error"]
    line = protocoast.read_text().splitlines()[problem["line"] - 1]
    assert line[problem["column"] - 1 : problem["end_column"] - 1] == "10"
    assert problem["key"] == "notebooks.memory.limit"
    assert problem["path"] == ["notebooks", "memory", "limit"]


def test_many_mistakes_of_every_kind_in_one_run(tidehub: Tidehub, tmp_path: Path) -> None:
    (tmp_path / "tidehub.yaml").write_text(
        "site:\n"
        "\tname: Coast\n"
        "  url: @here\n"
        "login:\n"
        "  provider: egi-checkin\n"
        "  allow: {groups: [vo.example.eu]}\n"
        "notebooks:\n"
        "  memory: {guarantee: 1 GiB, limit: 2\n"
        "  profiles:\n"
        "    - name: 'Main\n"
        "dask:\n"
        "  engine: gatway\n"
        "  engine: gateway\n"
    )
    told = tidehub("validate", "--json")
    found = {(one["line"], one["what"].split(",")[0][:30]) for one in told.json["problems"]}
    lines = {line for line, _ in found}
    assert told.code == 2
    assert {2, 3, 5, 10, 13} <= lines, sorted(found)
    assert not any("is missing" in one["what"] and one["path"][0] == "site" for one in told.json["problems"])


def test_a_placeholder_beside_the_site_file_is_named(tidehub: Tidehub, protocoast: Path) -> None:
    secrets = protocoast.with_name("tidehub.secrets.yaml")
    secrets.write_text("client_secret: <CLIENT_SECRET>\n")
    secrets.chmod(0o600)
    told = tidehub("validate")
    assert "client_secret: this value is a placeholder" in told.out
    # The site is valid, as init wrote it, and can be tried out; only who needs the secret must refuse.
    assert told.code == 0
    assert tidehub("validate", "--strict").code == 1


# --- explain --------------------------------------------------------------------------------------------------


def test_explain_says_everything_about_a_key(tidehub: Tidehub, protocoast: Path) -> None:
    told = tidehub("explain", "notebooks.memory.limit")
    assert told.code == 0
    for line in (
        "notebooks.memory.limit = 10 GiB",
        "  What a server never exceeds.",
        "  set by    tidehub.yaml:31:48",
        "  default   2 GiB, where notebooks.memory is absent",
    ):
        assert line in told.out.splitlines()
    assert "hub configuration  Spawner.mem_limit = 10737418240" in told.out
    assert "Helm values        jupyterhub: singleuser.memory.limit: 10G" in told.out
    assert "one machine        memory.max = 10737418240" in told.out


def test_explain_follows_the_sources(
    tidehub: Tidehub, protocoast: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEHUB__NOTEBOOKS__MEMORY__LIMIT", "8 GiB")
    (value,) = tidehub("explain", "notebooks.memory.limit", "--json").json["values"]
    assert (value["written"], value["source"], value["source_name"]) == (
        "8 GiB", "environment", "TIDEHUB__NOTEBOOKS__MEMORY__LIMIT",
    )  # fmt: skip
    told = tidehub(
        "explain", "notebooks.memory.limit", "--json", "--set", "notebooks.memory.limit=9 GiB"
    ).json
    assert (told["values"][0]["written"], told["values"][0]["source"]) == ("9 GiB", "command line")
    assert told["values"][0]["value"] == 9 * 2**30


def test_explain_a_section_and_a_list(tidehub: Tidehub, protocoast: Path) -> None:
    lines = tidehub("explain", "dask.cluster").out.splitlines()
    assert any(
        line.split() == ["dask.cluster.max_memory", "24", "GiB", "tidehub.yaml:60:17"] for line in lines
    )
    told = tidehub("explain", "notebooks.profiles.image").out
    assert "notebooks.profiles[0].image = quay.io/globalcoast/protocoast-notebook:main" in told
    assert "notebooks.profiles[1].image = quay.io/globalcoast/protocoast-notebook:develop" in told
    one = tidehub("explain", "notebooks.profiles[1].image").out
    assert "profiles[0]" not in one.replace("profileList[0]", "")
    assert tidehub("explain", "notebooks.profiles[7].image").code == 2


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("notebooks.memry.limit", "notebooks.memory.limit"),
        ("max_workers", "dask.cluster.max_workers"),
        ("dask.cluster.max-memory", "dask.cluster.max_memory"),
        ("Site", "site"),
    ],
)
def test_explain_knows_what_is_meant(tidehub: Tidehub, key: str, meant: str) -> None:
    told = tidehub("explain", key)
    assert told.code == 2
    assert f"key {key!r} does not exist" in told.err
    assert meant in told.err


def test_explain_without_a_file_takes_the_built_in_site(tidehub: Tidehub) -> None:
    told = tidehub("explain", "dask.cluster.max_workers")
    assert (told.code, "set by    preset laptop" in told.out) == (0, True)


def test_explain_helps_with_a_file_that_cannot_be_used(tidehub: Tidehub, protocoast: Path) -> None:
    protocoast.write_text(text_of("protocoast").replace("limit: 10 GiB", "limit: 10"))
    told = tidehub("explain", "notebooks.memory.limit")
    assert told.code == 2
    assert "may be    a size with a unit" in told.out
    assert "has no unit" in told.err


def test_every_key_can_be_explained(protocoast: Path) -> None:
    from tidehub.site.describe import all_keys
    from tidehub.site.explain import as_dict, explain, lines
    from tidehub.site.reading.load import load

    loaded = load(protocoast)
    for key in all_keys():
        for name in (key.name, key.name.replace("[]", "")):
            found = explain(name, loaded)
            assert found.key == key
            assert any(key.description in line for line in lines(found))
            json.dumps(as_dict(found))


def test_no_secret_is_explained(tidehub: Tidehub, protocoast: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEHUB__MACHINE__DATABASE_URL", "postgresql://hub:hunter2@db/hub")
    monkeypatch.setenv("TIDEHUB__OVERRIDES__HUB_CONFIG", "c.JupyterHub.x = 'hunter2'")
    monkeypatch.setenv("TIDEHUB__OVERRIDES__HELM__JUPYTERHUB", "{hub: {config: {X: {password: hunter2}}}}")
    for key in (
        "machine.database_url",
        "machine",
        "overrides",
        "overrides.helm.jupyterhub",
        "overrides.hub_config",
    ):
        for more in ([], ["--json"]):
            told = tidehub("explain", key, *more)
            assert told.code == 0, told.err
            assert "hunter2" not in told.out + told.err
    assert "postgresql://hub:[secret]@db/hub" in tidehub("explain", "machine.database_url").out
    assert "hunter2" not in tidehub("validate", "--json").out
    monkeypatch.setenv("TIDEHUB__LOGIN__CLIENT_SECRET", "hunter2")
    told = tidehub("validate")
    assert (told.code, "hunter2" in told.out) == (2, False)
    assert "secrets never stand in the site file" in told.out


# --- limits, schema -------------------------------------------------------------------------------------------


def test_limits_shows_the_table(tidehub: Tidehub, protocoast: Path) -> None:
    told = tidehub("limits")
    lines = [" ".join(line.split()) for line in told.out.splitlines()]
    assert told.code == 0
    assert "1 core, 4 GiB (default) 3 4 cores, 14 GiB dask.cluster.max_workers = 3" in lines
    assert "1 core, 6 GiB 3 4 cores, 20 GiB dask.cluster.max_workers = 3" in lines
    assert "2 cores, 6 GiB 1 3 cores, 8 GiB dask.cluster.max_cores = 4" in lines
    assert "24 GiB (25,769,803,776 bytes)" in told.out
    assert "One user: 2 clusters at once, together at most 8 cores, 48 GiB." in lines
    report = tidehub("limits", "--json", "--set", "dask.cluster.max_memory=16 GiB").json
    assert [row["workers"] for row in report["dask"]["workers"]] == [3, 2, 1, 1]
    assert report["dask"]["workers"][1]["bound_by"] == "dask.cluster.max_memory"
    assert report["notebooks"][0]["memory"] == {"guarantee": 5 * 2**30, "limit": 10 * 2**30}


@pytest.mark.parametrize("preset", NAMES)
def test_limits_of_every_preset(tidehub: Tidehub, tmp_path: Path, preset: str) -> None:
    (tmp_path / "s.yaml").write_text(text_of(preset))
    assert tidehub("limits", "s.yaml").code == 0
    assert "No Dask clusters" in tidehub("limits", "s.yaml", "--set", "dask.engine=none").out
    assert tidehub("limits", "s.yaml", "--set", "dask.engine=x").code == 2


def test_the_schema_is_printed(tidehub: Tidehub) -> None:
    told = tidehub("schema")
    jsonschema.Draft202012Validator.check_schema(told.json)


@pytest.mark.parametrize("words", ["x", "=3", "a..b=1", ".a=1", "site.name=[", "site.name='x"])
def test_settings_that_are_none(tidehub: Tidehub, protocoast: Path, words: str) -> None:
    told = tidehub("validate", "--set", words)
    assert told.code == 2
    assert told.err.startswith("tidehub: --set ")


# --- init -----------------------------------------------------------------------------------------------------


def test_init_says_to_a_program_what_it_made(tidehub: Tidehub, tmp_path: Path) -> None:
    told = tidehub("init", "--preset", "protocoast", "--json", tmp_path / "one").json
    assert (told["ok"], told["preset"], told["replaced"]) == (True, "protocoast", False)
    assert Path(told["file"]).exists() and Path(told["secrets"]["file"]).exists()
    assert told["secrets"]["to_give"] and told["secrets"]["made"]
    assert [line.split()[1] for line in told["next"]] == ["validate", "up"]


@pytest.mark.parametrize("preset", NAMES)
def test_init_writes_a_site_that_is_valid(tidehub: Tidehub, tmp_path: Path, preset: str) -> None:
    place = tmp_path / "my sites" / "one"
    told = tidehub("init", "--preset", preset, place)
    assert told.code == 0, told.err
    assert (place / "tidehub.yaml").read_text() == text_of(preset)
    secrets = place / "tidehub.secrets.yaml"
    assert secrets.exists() == (preset != "laptop")
    if secrets.exists():
        assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    left = {path.name for path in place.iterdir()} - {"tidehub.yaml", "tidehub.secrets.yaml", ".gitignore"}
    assert all(name.endswith(".lock") or name.startswith(".tidehub") for name in left), left
    checked = tidehub("validate", place / "tidehub.yaml")
    # The registration's secret has to be brought; nothing else is missing.
    assert checked.out.count(": error") == 0
    assert [
        line for line in checked.out.splitlines() if "placeholder" in line or "cannot be used" in line
    ] == (
        []
        if preset == "laptop"
        else [line for line in checked.out.splitlines() if "client_secret" in line or "cannot" in line]
    )


def test_init_never_replaces_unasked(tidehub: Tidehub, protocoast: Path) -> None:
    protocoast.write_text("mine")
    told = tidehub("init")
    assert (told.code, protocoast.read_text()) == (2, "mine")
    assert "--force" in told.err
    assert tidehub("init", "--force").code == 0
    assert protocoast.read_text() == text_of("laptop")


def test_init_refuses_what_is_not_its_own(tidehub: Tidehub, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("other")
    (tmp_path / "tidehub.yaml").symlink_to("other.yaml")
    told = tidehub("init", "--force")
    assert (told.code, "a symbolic link" in told.err) == (2, True)
    assert (tmp_path / "other.yaml").read_text() == "other"
    (tmp_path / "file").write_text("")
    told = tidehub("init", tmp_path / "file")
    assert told.code in (1, 2)
    assert "cannot be written" in told.err
    assert tidehub("init", "--preset", "labtop", tmp_path / "x").err.count("did you mean laptop?") == 1
    assert not (tmp_path / "x").exists()


def test_init_leaves_nothing_half_written(
    tidehub: Tidehub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tidehub.site.start.os.fsync", full)
    told = tidehub("init", tmp_path / "x")
    assert (told.code, "No space left" in told.err) == (1, True)
    assert list((tmp_path / "x").iterdir()) == []


# --- speed ----------------------------------------------------------------------------------------------------

ALLOWED = {
    "annotated_doc", "annotated_types", "pydantic", "pydantic_core", "ruamel", "shellingham", "tidehub", "typer",
    "typing_extensions", "typing_inspection",
}  # fmt: skip
"""Packages that `validate` may load. Each costs: a new one has to be worth it at every call."""
NOT_LOADED = {
    "asyncio",
    "ssl",
    "http",
    "logging",
    "concurrent",
    "multiprocessing",
    "sqlite3",
    "xml",
    "unittest",
}
"""Parts of the standard library that cost more than 10 ms and are of no use here."""
PARTS = {"cli", "errors", "gateway", "login", "loopback", "printable", "program", "release_sets", "site"}
"""Parts of tidehub that `validate` may load."""


@pytest.mark.parametrize("command", ["validate", "limits", "schema"])
def test_what_a_quick_command_loads(command: str) -> None:
    file = [] if command == "schema" else [str(ROOT / "examples" / "protocoast" / "tidehub.yaml")]
    code = (
        "import sys; before = set(sys.modules); from tidehub.cli.main import run; "
        f"assert run({[command, *file]!r}) == 0; print(*sorted(set(sys.modules) - before), file=sys.stderr)"
    )
    path = {"PYTHONPATH": str(ROOT / "src"), "PATH": os.environ.get("PATH", "")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=path, capture_output=True, text=True, timeout=60, check=True
    )
    modules = done.stderr.split()
    packages = {name.partition(".")[0] for name in modules}
    assert not packages & NOT_LOADED
    foreign = {name for name in packages if name not in sys.stdlib_module_names and not name.startswith("_")}
    assert foreign <= ALLOWED
    ours = {name.split(".")[1] for name in modules if name.startswith("tidehub.")}
    assert ours <= PARTS | {"__main__"}
    assert "tidehub.cli.up" not in modules
    assert "rich" not in packages
