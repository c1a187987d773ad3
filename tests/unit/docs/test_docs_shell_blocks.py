"""Every command in a shell block of the pages about one machine is run by a test, or the list says why not."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
LIST = tomllib.loads((Path(__file__).parent / "shell_blocks.toml").read_text("utf-8"))


def commands(page: str) -> list[str]:
    """The commands of a page's shell blocks, without comments and what they print."""
    blocks = re.findall(r"```(?:console|sh|bash)\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [re.sub(r"\s+# .*$", "", line[2:]) for line in lines if line[:2] in ("$ ", "# ")]


@pytest.mark.parametrize("page", LIST)
def test_the_list_has_every_command_of_a_page_and_no_other(page: str) -> None:
    assert sorted(set(commands(page))) == sorted(LIST[page])


@pytest.mark.parametrize("page", LIST)
def test_the_tests_that_the_list_names_exist(page: str) -> None:
    for command, by in LIST[page].items():
        if by.startswith("tests/"):
            assert (ROOT / by).is_file(), f"{page}: {command}: {by}"
        else:
            assert len(by.split()) > 3, f"{page}: {command}: a reason is a sentence"


WITHOUT_A_LIST = {
    "docs/reference/cli.md",  # generated, and compared with what the commands print
    "docs/how-to/check-a-site.md",  # transcripts, compared by test_docs_transcripts.py
    "docs/how-to/who-may-enter.md",  # the same, by test_docs_who_may_enter.py
    # Of Kubernetes, of providers elsewhere, or of programs that are not ours:
    "docs/how-to/dask-from-a-laptop.md",
    "docs/how-to/deploy-on-kubernetes.md",
    "docs/how-to/import-existing-helm-values.md",
    "docs/how-to/leave-tidehub.md",
    "docs/how-to/move-an-existing-daskhub.md",
    "docs/how-to/profile-packages.md",
    "docs/how-to/register-with-egi-check-in.md",
    "docs/how-to/secrets.md",
    "docs/how-to/tls-and-reverse-proxy.md",
    "docs/how-to/tokens-for-scripts.md",
    "docs/reference/charts.md",
}


def test_a_new_page_with_commands_gets_a_list() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    found = {name for page in pages if commands(name := str(page.relative_to(ROOT)))}
    assert found - set(LIST) <= WITHOUT_A_LIST
