"""The transcripts of the how-to page are what the command says, word by word."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from helm_values import VALUES

from tidehub.cli.main import run

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "import-existing-helm-values.md"
FILLED_IN = {
    "values.yaml": (
        "pangeo-guide-inline.yaml",
        {
            "<password>": "correct-horse-battery",
            "<id>": "pangeo-hub",
            "<secret>": "hT8w2-kfQ0aZ7vLm",
            "<token>": "4be1c07a95d2f8630c7e1ab94d5f26830e9b7c41a6d8f25390be17c4a8d60f32",
        },
    ),
    "ingress.yaml": ("pangeo-guide-ingress.yaml", {}),
    "jhub-values.yaml": ("protocoast-jhub.yaml", {}),
    "dask-gateway-values.yaml": ("protocoast-dask-gateway.yaml", {}),
    "values-secrets.yaml": (
        "protocoast-guide-secrets-inline.yaml",
        {
            "<CLIENT_ID>": "protocoast-hub",
            "<CLIENT_SECRET>": "Vq93-pLz0Rk2mWsX",
            "<DASK_GATEWAY_TOKEN>": "9d04e7b1c2a85f3690be4d7a1c58f2e603b79d4ca6e1f85270c3b9d8e46a15f7",
        },
    ),
}


@pytest.fixture
def guides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of both guides, with made-up secrets, where the commands of the page are run."""
    for name, (source, secrets) in FILLED_IN.items():
        text = (VALUES / source).read_text(encoding="utf-8")
        for placeholder, value in secrets.items():
            text = text.replace(placeholder, value)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_transcripts(guides: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    shape = r"```console\n\$ tidehub (import [^\n]*yaml[^\n]*)\n```\n\n```text\n(.*?)```"
    transcripts = re.findall(shape, page, flags=re.DOTALL)
    assert len(transcripts) == 2
    for command, said in transcripts:
        assert run(shlex.split(command)) == 0
        assert capsys.readouterr().out == said
    assert (guides / "pangeo" / "tidehub.yaml").read_text() in page


def test_the_page_holds_no_secret() -> None:
    page = PAGE.read_text(encoding="utf-8")
    secrets = [
        value
        for _, filled in FILLED_IN.values()
        for name, value in filled.items()
        if "id" not in name.lower()
    ]
    assert len(secrets) == 5
    assert not [value for value in secrets if value in page]
