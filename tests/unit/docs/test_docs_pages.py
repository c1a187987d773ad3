"""The pages keep to the code: generated ones are current, links lead somewhere, commands and keys exist."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from tidehub.cli.main import app
from tidehub.site.model import Site

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "bench").glob("*.md")])
SCREENSHOTS = ROOT / "docs" / "images"
"""Pictures are taken by the browser test, so a checkout may lack them."""


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    loader = SourceFileLoader("tools_docs", str(ROOT / "tools" / "docs"))
    spec = importlib.util.spec_from_loader("tools_docs", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["cli.md", "site-file.md"])
def test_the_committed_reference_is_what_the_code_gives(generator: ModuleType, name: str) -> None:
    committed = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
    assert committed == generator.pages()[name], "run tools/docs"


def test_check_tells_a_stale_page(
    generator: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generator, "HERE", tmp_path)
    monkeypatch.setattr(generator, "REFERENCE", tmp_path)
    assert generator.main(["--check"]) == 1
    assert generator.main([]) == 0
    assert generator.main(["--check"]) == 0
    (tmp_path / "cli.md").write_text("old")
    assert generator.main(["--check"]) == 1


def test_the_site_page_has_every_key(generator: ModuleType) -> None:
    page = generator.pages()["site-file.md"]
    for name in Site.model_fields:
        assert f"\n## {name}\n" in page
    assert "| `kubernetes.exposure.class` |" in page  # the name in the file, not in the code
    assert "| `dask.cluster.idle_timeout` | timeout | `20 min` |" in page
    assert "| `notebooks.memory.limit` | size | `2 GiB` ¹ |" in page
    assert "| `site.name` | text | **required** |" in page


def test_the_readme_lists_every_page() -> None:
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("## Documentation")[1]
    listed = set(re.findall(r"\]\((docs/[^)#]+)\)", table))
    assert listed == {str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, _ = target.partition("#")
        if not path or re.match(r"[a-z]+:", path):
            continue
        found = (page.parent / path).resolve()
        assert found.exists() or found.is_relative_to(SCREENSHOTS), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_options_exist(page: Path) -> None:
    group: Any = typer.main.get_command(app)
    for line in _commands(page.read_text(encoding="utf-8")):
        words = shlex.split(line, comments=True)
        name = next((word for word in words[1:] if not word.startswith("-")), None)
        if name is None:
            assert set(words[1:]) <= {"--version", "--help", "-h"}, f"{page.name}: {line}"
            continue
        assert name in group.commands, f"{page.name}: {line}"
        command = group.commands[name]
        if hasattr(command, "commands"):
            below = next((word for word in words[words.index(name) + 1 :] if not word.startswith("-")), None)
            assert below is None or below in command.commands, f"{page.name}: {line}"
            command = command.commands[below] if below else command
        known = {option for param in command.params for option in param.opts} | {"--help", "-h"}
        used = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert used <= known, f"{page.name}: {line}"


def _commands(text: str) -> Iterator[str]:
    """Calls of tidehub in code blocks and between backticks."""
    for block in re.findall(r"```(?:console|sh|bash|ini)\n(.*?)```", text, flags=re.DOTALL):
        for line in block.splitlines():
            call = re.search(r"(?:^|[ =/])(tidehub (?:[a-z]|--version).*)$", line.removeprefix("$ ").strip())
            if call and "Usage:" not in line:
                yield re.split(r" [|&;>]", call[1])[0]
    inline = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    yield from (call.strip() for call in re.findall(r"`(?:\./)?(tidehub [a-z-][^`]*)`", inline))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_site_keys_exist(page: Path, generator: ModuleType) -> None:
    known = {re.sub(r"\[\]", "", key) for key in re.findall(r"`([a-z_.\[\]]+)`", generator.site_page())}
    # Helm values of the jupyterhub chart begin with `hub.` too.
    sections = "|".join(name for name in Site.model_fields if name != "hub")
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for key in re.findall(rf"`((?:{sections})\.[a-z_]+(?:\.[a-z_]+)*)`", text):
        inner = any(name.startswith(f"{key}.") for name in known)
        assert key in known or inner or key.endswith((".json", ".log", ".sqlite", ".py")), (
            f"{page.name}: {key}"
        )
