"""What all commands have in common: how a site is named, what `--help` says, JSON also of a failure, hints that can be
pasted, completion."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from tidehub.cli import main, validate
from tidehub.cli.options import SITE_VARIABLE
from tidehub.program import COMPLETES
from tidehub.site.presets import text_of

SOURCE = Path(__file__).resolve().parents[3] / "src" / "tidehub"


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its words, those of groups too."""

    def below(words: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
        names = getattr(command, "list_commands", None)
        if names is None:
            yield words, command
            return
        for name in names(None):
            yield from below((*words, name), command.get_command(None, name))

    return below((), typer.main.get_command(main.app))


EVERY = dict(commands())
OPTIONS = {words: {opt for one in made.params for opt in one.opts} for words, made in EVERY.items()}
OF_A_SITE = [
    words for words, made in EVERY.items() if any(one.envvar == SITE_VARIABLE for one in made.params)
]
WITH_JSON = [words for words, known in OPTIONS.items() if "--json" in known]
NAMES = " ".join


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory, and nobody's variables."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("TIDEHUB_", "KUBECONFIG"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


# --- the site --------------------------------------------------------------------------------------------------


def test_every_command_about_a_site_names_it_in_the_same_way() -> None:
    without = {NAMES(words) for words in EVERY if words not in OF_A_SITE}
    assert without == {
        *("init", "import", "schema", "completion"),  # no site file yet, or about none
        *("down", "reload", "restore", "service show", "service remove"),  # about a state or a backup
    }
    for words in OF_A_SITE:
        assert "--site" in OPTIONS[words], words
    assert not [words for words in EVERY if "--site" in OPTIONS[words] and words not in OF_A_SITE]


@pytest.fixture
def named(alone: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """The exit code of `validate`, and the file that it took."""
    asked: list[str] = []
    check = validate.check_given

    def given(file: Path | None, *more: Any) -> Any:
        asked.append(str(file))
        return check(file, *more)

    monkeypatch.setattr(validate, "check_given", given)
    for name in ("tidehub.yaml", "a.yaml", "b.yaml"):
        (alone / name).write_text(text_of("laptop"))

    def run(*words: str) -> tuple[int, str]:
        asked.clear()
        return main.run(["validate", *words]), "".join(asked)

    return run


def test_the_argument_the_option_and_the_variable_mean_the_same(
    named: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert named() == (0, "None")  # this directory's
    assert named("a.yaml") == named("--site", "a.yaml") == named("--site=a.yaml") == (0, "a.yaml")
    monkeypatch.setenv(SITE_VARIABLE, "b.yaml")
    assert named() == (0, "b.yaml")
    assert named("a.yaml") == named("--site", "a.yaml") == (0, "a.yaml")
    assert named("a.yaml", "--site", "a.yaml") == (0, "a.yaml")
    monkeypatch.setenv(SITE_VARIABLE, "")
    assert named() == (0, "None")
    capsys.readouterr()
    assert named("a.yaml", "--site", "b.yaml") == (2, "")
    assert "two site files" in capsys.readouterr().err


def test_up_serves_the_site_of_this_directory_unless_another_is_named(
    alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tidehub.cli import up

    class Asked(Exception):
        pass

    def loaded(file: Path | None, settings: object = ()) -> None:
        raise Asked(file)

    monkeypatch.setattr(up, "load_site_or_builtin", loaded)

    def asked(*words: str) -> Path | None:
        with pytest.raises(Asked) as found:
            main.run(["up", "--state", str(alone / "state"), *words])
        return found.value.args[0]  # type: ignore[no-any-return]

    assert asked() is None
    (alone / "tidehub.yaml").write_text(text_of("laptop"))
    assert asked() == Path("tidehub.yaml")
    assert asked("--built-in") is None
    assert asked("x.yaml") == asked("--site", "x.yaml") == Path("x.yaml")
    monkeypatch.setenv(SITE_VARIABLE, "y.yaml")
    assert asked() == Path("y.yaml")
    assert asked("--built-in") is None


# --- help ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", [[], ["secrets"], ["service"]], ids=lambda words: NAMES(words) or "tidehub")
def test_the_list_of_commands_has_one_whole_line_for_each(
    group: list[str], alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run([*group, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "..." not in shown.split("Options:")[1] and max(map(len, shown.splitlines())) <= 80
    for words in EVERY:
        if list(words[:-1]) == group:
            assert re.search(rf"^  {re.escape(words[-1])} +[A-Z].*[.]$", shown, re.M), words


def test_help_begins_with_what_is_needed_first(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--help"]) == 0
    shown = capsys.readouterr().out
    headings = ["Run a platform on this machine:", "Describe a site:", "Deploy it on Kubernetes:"]
    places = [shown.index(one) for one in headings]
    assert places == sorted(places)
    assert shown.index("  up ") < shown.index("  status ") < shown.index("  down ") < places[1]


@pytest.mark.parametrize("words", EVERY, ids=NAMES)
def test_summaries_are_imperative(words: tuple[str, ...]) -> None:
    first = EVERY[words].get_short_help_str(1000).split()[0]
    assert first in {
        *(
            "Start",
            "Show",
            "Go",
            "Apply",
            "Stop",
            "Write",
            "Check",
            "List",
            "Make",
            "Replace",
            "Say",
            "Print",
        ),
        *("Bring", "Remove", "Copy"),
    }, f"{first} does not say what to do"


# --- JSON ------------------------------------------------------------------------------------------------------

WITHOUT_JSON = {
    ("schema",): "prints JSON anyway",
    ("completion",): "prints a script for a shell, which takes nothing else",
}


def test_every_command_has_json_or_a_reason() -> None:
    assert {words for words in EVERY if words not in WITH_JSON} == set(WITHOUT_JSON)


def test_every_object_is_printed_in_one_way() -> None:
    """`answers.print_json` gives each its `ok`, hides secrets, and comes to the same shape as a failure."""
    allowed = {"answers.py", "failure.py", "schema.py"}
    assert {
        file.name for file in (SOURCE / "cli").glob("*.py") if "json.dumps" in file.read_text()
    } == allowed


BROKEN = {
    ("restore",): ["nothing.tar.gz"],
    ("import",): ["nothing.yaml"],
    ("explain",): ["notebooks.memory", "nothing.yaml"],
    ("secrets", "rotate"): ["client_secret", "nothing.yaml"],
    ("explain-login",): ["nothing.yaml", "--claims", "nothing.json"],
    ("check",): ["--state", "nothing"],
    ("status",): ["nothing.yaml", "--target", "kubernetes"],
    ("backup",): ["nothing.yaml", "--state", "nothing"],
    ("reload",): ["--state", "nothing"],
    ("up",): ["nothing.yaml", "--state", "nothing"],
    ("down",): ["--state", "a file/nothing"],
    ("logs",): ["--state", "nothing"],
    ("init",): ["--preset", "nothing"],
    ("service", "install"): ["nothing.yaml", "--state", "nothing"],
    ("service", "show"): ["--state", "nothing"],
    ("service", "remove"): ["--state", "a file/nothing"],
}
"""What each command cannot do here; a site file that is not there for all others."""


@pytest.mark.parametrize("words", WITH_JSON, ids=NAMES)
def test_a_failure_is_one_json_object_too(
    words: tuple[str, ...], alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (alone / "a file").write_text("")
    code = main.run([*words, *BROKEN.get(words, ["nothing.yaml"]), "--json"])
    shown = capsys.readouterr()
    told = json.loads(shown.out)
    assert code in (1, 2) and told["ok"] is False and next(iter(told)) == "ok"
    if words != ("validate",):  # which has an answer all the same: what is wrong
        assert {"what", "where", "expected", "fix"} <= set(told)
    assert "nothing" in shown.out
    assert "tidehub:" not in shown.err  # progress at most


@pytest.mark.parametrize("words", WITH_JSON, ids=NAMES)
def test_wrong_usage_is_json_too(
    words: tuple[str, ...], alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run([*words, "--json", "--no-such-option"]) == 2
    shown = capsys.readouterr()
    told = json.loads(shown.out)
    assert (told["ok"], told["fix"]) == (False, f"see: tidehub {NAMES(words)} --help")
    assert "--no-such-option" in told["what"]
    assert shown.err == ""


def test_an_interruption_is_json_too(
    alone: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(validate, "check_given", interrupted)
    assert main.run(["validate", "--json"]) == 130
    assert json.loads(capsys.readouterr().out)["what"] == "interrupted"


# --- hints -----------------------------------------------------------------------------------------------------

_COMMAND = re.compile(rf"(?<![\w./-])tidehub (?:{'|'.join(sorted({words[0] for words in EVERY}))})\b")
WRITTEN = {
    # Texts in files that others read elsewhere, and where they are recognised again.
    "kubernetes/rendering/content.py",
    "kubernetes/rendering/readme.py",
    "secrets/editing.py",
    "importing/site_text.py",
    "local/service/unit.py",
    "local/service/installing.py",
    "local/hub/roles.py",
    # Help, which is made before it is known how it was called, and is the same in the reference.
    "cli/restore.py",
}


def test_messages_call_the_program_as_it_was_called() -> None:
    """`program.command` and `places.command` say `./tidehub` in a checkout, quote paths and keep `--state`."""
    found = []
    for file in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(file.read_text())
        about = {id(one.value) for one in ast.walk(tree) if isinstance(one, ast.Expr)}
        found += [
            f"{file.relative_to(SOURCE)}: {one.value.strip()[:80]}"
            for one in ast.walk(tree)
            if isinstance(one, ast.Constant) and isinstance(one.value, str) and id(one) not in about
            if _COMMAND.search(one.value) and str(file.relative_to(SOURCE)) not in WRITTEN
        ]
    assert found == []


def test_a_warning_is_marked_once(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tidehub.cli.console import PlainSay
    from tidehub.site.problems import warning

    PlainSay().warn(warning("this is odd", ("site", "name"), fix="change it").unmarked())
    assert capsys.readouterr().err == "warning: site.name: this is odd\n  to do: change it\n"


@pytest.mark.parametrize("command", ["status", "down", "logs", "reload", "check"])
@pytest.mark.parametrize(
    "made", ["a state that is a file", "a private directory that is one", "a file above it"]
)
def test_a_file_where_a_directory_should_be_is_called_one(
    command: str, made: str, alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = alone / "state"
    if made == "a state that is a file":
        state.write_text("")
    elif made == "a file above it":
        state.write_text("")
        state = state / "below"
    else:
        state.mkdir()
        (state / "private").write_text("")
    code = main.run([command, "--state", str(state)])
    shown = capsys.readouterr()
    assert code in (1, 2), shown.out
    assert "may not" not in shown.err and "Traceback" not in shown.err
    assert "Not a directory" in shown.err or "is not a directory" in shown.err


# --- completion ------------------------------------------------------------------------------------------------


def completed(shell: str, words: str, alone: Path) -> list[str]:
    """What the script of a shell gets when it asks for words that go on, through the same variables."""
    asked = {
        "bash": {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))},
        "zsh": {"_TYPER_COMPLETE_ARGS": words},
        "fish": {"_TYPER_COMPLETE_ARGS": words, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    done = subprocess.run(
        [sys.executable, "-m", "tidehub"],
        env={"PYTHONPATH": ":".join(sys.path), "HOME": str(alone), COMPLETES: f"complete_{shell}", **asked},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return re.findall(r"[-\w./]+", done.stdout.replace("'' ", " "))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("tidehub lo", "logs"),
        ("./tidehub up --det", "--detach"),
        ("tidehub secrets ro", "rotate"),
        ("tidehub explain notebooks.mem", "notebooks.memory.limit"),
        ("tidehub init --preset pro", "protocoast"),
        ("tidehub logs --state STATE pro", "proxy"),
        ("tidehub status --target k", "kubernetes"),
    ],
)
def test_words_are_completed(shell: str, words: str, expected: str, alone: Path) -> None:
    (alone / "state" / "logs").mkdir(parents=True)
    (alone / "state" / "logs" / "proxy.log").write_text("")
    assert expected in completed(shell, words.replace("STATE", str(alone / "state")), alone)


def test_what_cannot_be_found_completes_nothing_and_says_nothing(alone: Path) -> None:
    assert completed("bash", f"tidehub logs --state {alone}/none pro", alone) == []
    assert completed("bash", "tidehub secrets rotate cl", alone) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_of_its_shell(shell: str, alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"{COMPLETES}=complete_{shell}" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n", "/dev/stdin"], input=script, text=True, timeout=60, check=True)


def test_a_tab_in_bash(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["completion", "bash"]) == 0
    program = alone / "tidehub"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m tidehub "$@"\n')
    program.chmod(0o755)
    ask = "COMP_WORDS=(./tidehub val); COMP_CWORD=1; _tidehub_completion ./tidehub; printf '%s\\n' \"${COMPREPLY[@]}\""
    done = subprocess.run(
        ["bash", "--norc", "-c", f"{capsys.readouterr().out}\n{ask}"],
        env={"PYTHONPATH": ":".join(sys.path), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["validate"]
