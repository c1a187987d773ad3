"""`tidehub import` as a command: what it writes, refuses and answers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helm_values import PANGEO, PROTOCOAST, VALUES

from tidehub.cli.main import run
from tidehub.importing import files
from tidehub.site import load_site

SECRET = "hub: {config: {GenericOAuthenticator: {client_secret: S3cr3t-of-the-client}}}\n"


def call(out: Path, *arguments: str, names: tuple[str, ...] = PANGEO) -> int:
    return run(["import", *(str(VALUES / name) for name in names), "--output", str(out), *arguments])


def test_what_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "site"
    assert call(out, names=PROTOCOAST) == 0
    assert [path.name for path in out.iterdir()] == ["tidehub.yaml"]
    said = capsys.readouterr().out
    assert f"{out}/tidehub.yaml  (site file)" in said
    assert re.search(
        r"\n\d+ values: \d+ understood, \d+ translated, \d+ not needed any more, \d+ secret\.\n", said
    )


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tidehub.yaml").write_text("mine")
    assert call(tmp_path) == 2
    assert "--force" in capsys.readouterr().err
    assert (tmp_path / "tidehub.yaml").read_text() == "mine"
    assert call(tmp_path, "--force") == 0
    assert load_site(tmp_path / "tidehub.yaml").site.name == "Pangeo"


def test_a_secrets_file_is_not_overwritten_either(tmp_path: Path) -> None:
    (tmp_path / "tidehub.secrets.yaml").write_text("client_secret: abcdefgh1\n")
    assert call(tmp_path) == 2
    assert not (tmp_path / "tidehub.yaml").exists()


@pytest.mark.parametrize("target", ["tidehub.yaml", "tidehub.secrets.yaml"])
def test_a_dangling_link_counts_as_a_file(target: str, tmp_path: Path) -> None:
    (tmp_path / target).symlink_to(tmp_path / "elsewhere")
    assert call(tmp_path) == 2
    assert not (tmp_path / "elsewhere").exists()


def test_places_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert call(tmp_path / "file") == 2
    assert call(tmp_path / "file" / "below") == 1
    (tmp_path / "taken" / "tidehub.yaml").mkdir(parents=True)
    assert call(tmp_path / "taken", "--force") == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(SECRET)
    out = tmp_path / "out"
    real = Path.replace

    def full(self: Path, target: Path) -> Path:
        if Path(target).name == "tidehub.yaml":
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", full)
    assert run(["import", str(values), "-o", str(out)]) == 1
    assert list(out.iterdir()) == []


def test_a_failed_write_brings_the_old_secrets_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(SECRET)
    old = "# mine\nclient_secret: the-old-secret-1\n"
    (tmp_path / "tidehub.secrets.yaml").write_text(old)
    (tmp_path / "tidehub.secrets.yaml").chmod(0o600)
    monkeypatch.setattr(files, "_replace", _fails)
    assert run(["import", str(values), "-o", str(tmp_path), "--force"]) == 1
    assert (tmp_path / "tidehub.secrets.yaml").read_text() == old
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tidehub.secrets.yaml", "values.yaml"]


def _fails(path: Path, text: str) -> None:
    raise files.TidehubError("cannot write")


def test_dry_run_prints_the_site_file_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(tmp_path / "out", "--dry-run") == 0
    assert "provider: egi-check-in" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_name_and_namespace(tmp_path: Path) -> None:
    assert call(tmp_path, "--name", "Pangeo on EGI", "--namespace", "pangeo") == 0
    site = load_site(tmp_path / "tidehub.yaml")
    assert site.site.name == "Pangeo on EGI"
    assert site.kubernetes is not None
    assert site.kubernetes.namespace == "pangeo"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--namespace", "Not A Namespace"],
        ["--namespace", ""],
        ["--name", ""],
        ["--name", "two\nlines"],
        ["--unknown"],
    ],
)
def test_wrong_options(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(tmp_path / "out", *arguments) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_no_file_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["import"]) == 2
    assert "VALUES" in capsys.readouterr().err


def test_exit_code_one_when_the_site_is_not_complete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(tmp_path, names=("jupyterhub-2.0-github.yaml",)) == 1
    said = capsys.readouterr().out
    assert "is not complete yet" in said
    assert "the provider oidc needs an issuer" in said
    assert (tmp_path / "tidehub.yaml").exists()


def test_verbose_lists_what_was_understood(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(tmp_path, "--verbose")
    said = capsys.readouterr().out
    assert "hub.baseUrl -> site.url" in said


def test_json_accounts_for_every_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(tmp_path, "--json") == 0
    account = json.loads(capsys.readouterr().out)
    assert account["model"] == "daskhub"
    assert account["written"] == {"site": str(tmp_path / "tidehub.yaml")}
    assert len(account["values"]) == sum(account["counts"].values()) == 26
    assert {one["severity"] for one in account["problems"]} == {"warning"}
    assert account["placeholders"][0]["name"] == "proxy_auth_token"


def test_a_fault_of_the_rules_stops_the_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tidehub.importing.fates import ChartValues

    monkeypatch.setattr(ChartValues, "settle_the_rest", lambda self: None)
    assert call(tmp_path / "out", names=("jupyterhub-4.4-postgres.yaml",)) == 1
    assert "lost track of" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_output_is_the_same_every_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        call(tmp_path / name, names=PROTOCOAST)
    assert (tmp_path / "a" / "tidehub.yaml").read_bytes() == (tmp_path / "b" / "tidehub.yaml").read_bytes()


def test_help_does_not_import_the_importer() -> None:
    code = "import sys; from tidehub.cli.main import run; run(['import', '--help']); print([m for m in sys.modules if m.startswith(('tidehub.importing', 'tidehub.site', 'ruamel'))])"  # noqa: E501
    source = str(Path(__file__).parents[3] / "src")
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
