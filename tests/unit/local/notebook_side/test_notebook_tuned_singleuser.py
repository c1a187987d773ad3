"""The tuned start, as a plain file in a process of its own with a stand-in for what it starts."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tidehub.local import notebook_side

TUNED = Path(notebook_side.__file__).with_name("tuned_singleuser.py")
PACKAGES = {
    "rfc3987_syntax/__init__.py": """
        print("grammar built")
        terms = ("iri",)
        def is_valid_syntax(term, value):
            return (term, value) == ("iri", "http://x/")
        """,
    "jupyterlab/__init__.py": "",
    "jupyterlab/commands.py": "def _yarn_config(logger): raise SystemExit('asked Node')",
    "jupyter_server/__init__.py": "",
    "jupyter_server/serverapp.py": """
        class ServerApp:
            def start(self):
                import gc
                print("serving, collector on:", gc.isenabled(), "kept:", gc.get_freeze_count() > 0)
        """,
    "jupyterhub/__init__.py": "",
    "jupyterhub/singleuser/__init__.py": """
        import gc, sys
        def main():
            from jupyterlab import commands
            from jupyter_server.serverapp import ServerApp
            print("collector on:", gc.isenabled(), "yarn:", commands._yarn_config(None)["yarn config"])
            ServerApp().start()
            BODY
            return 3
        """,
}


def start(tmp_path: Path, body: str = "pass", without: str = "") -> subprocess.CompletedProcess[str]:
    for name, text in PACKAGES.items():
        if without and name.startswith(without):
            continue
        place = tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(textwrap.dedent(text).replace("BODY", body))
    return subprocess.run(
        [sys.executable, *(["-S"] if without else []), str(TUNED), "--flag"],
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_nothing_is_collected_or_asked_before_serving(tmp_path: Path) -> None:
    done = start(tmp_path)
    assert done.stdout.splitlines() == [
        "collector on: False yarn: {}",
        "serving, collector on: True kept: True",
    ]
    assert (done.returncode, done.stderr) == (3, "")


def test_the_arguments_and_the_name_are_the_plain_programs(tmp_path: Path) -> None:
    told = start(tmp_path, "print(sys.argv)").stdout.splitlines()[-1]
    assert told == str([str(Path(sys.prefix) / "bin" / "jupyterhub-singleuser"), "--flag"])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("from rfc3987_syntax import is_valid_syntax as check", []),
        (
            "from rfc3987_syntax import is_valid_syntax as check; print(check('iri', 'http://x/'), check('iri', 'y'))",
            ["grammar built", "True False"],
        ),
        ("import rfc3987_syntax; print(rfc3987_syntax.terms)", ["grammar built", "('iri',)"]),
    ],
)
def test_the_grammar_is_built_when_it_is_used(tmp_path: Path, body: str, said: list[str]) -> None:
    assert start(tmp_path, body).stdout.splitlines()[2:] == said


def test_an_environment_without_the_grammar_stays_without(tmp_path: Path) -> None:
    done = start(tmp_path, "import rfc3987_syntax", without="rfc3987_syntax")
    assert "ModuleNotFoundError: No module named 'rfc3987_syntax'" in done.stderr
