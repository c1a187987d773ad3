"""Every command in a shell block of the pages about one machine is run by a test, or the list says why not."""

from __future__ import annotations

import itertools
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


def words_of(command: str) -> list[str]:
    """What a test must say to run it: the program, or what `tidehub` is to do, and the options."""
    found: list[str] = []
    for one in re.split(r" && |; ", command):
        words = [word for word in one.split() if not re.match(r"[A-Z_]+=", word)]
        program = words.pop(0).rpartition("/")[2]
        if program == "tidehub":
            names = itertools.takewhile(lambda word: re.fullmatch(r"[a-z-]+", word), words)
            found += list(names)[: 2 if words[0] in ("secrets", "service") else 1]
            found += [word for word in words if word.startswith("--")]
        elif program != "cd":
            found.append(program)
    return found


@pytest.mark.parametrize("page", LIST)
def test_a_test_that_the_list_names_runs_the_command(page: str) -> None:
    """As far as its text shows: it says the command's words, or takes them from the page or the list."""
    for command, by in LIST[page].items():
        if not by.startswith("tests/"):
            continue
        text = (ROOT / by).read_text("utf-8")
        if by.startswith("tests/unit/docs/") or "shell_blocks.toml" in text or "docs" in Path(by).name:
            continue
        # What a test begins with is often in the modules beside it.
        for name in re.findall(r"^from (\w+) import", text, re.MULTILINE):
            if (beside := (ROOT / by).with_name(f"{name}.py")).is_file():
                text += beside.read_text("utf-8")
        missing = [
            word
            for word in words_of(command)
            if not re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text)
        ]
        assert not missing, f"{page}: {command}: {by} does not say {', '.join(missing)}"


WITHOUT_A_LIST = {
    "docs/reference/cli.md",  # generated, and compared with what the commands print
}


def test_a_new_page_with_commands_gets_a_list() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    found = {name for page in pages if commands(name := str(page.relative_to(ROOT)))}
    assert found - set(LIST) == WITHOUT_A_LIST
