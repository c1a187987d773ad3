"""What `up` refuses before a checkout's software is set up: at once, in words, and with nothing made."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from tidehub.cli import main
from tidehub.local import early
from tidehub.site.model.machine import Machine
from tidehub.site.presets import text_of

CHECKOUT = Path(__file__).resolve().parents[3]
SECONDS = 5.0
"""It takes a third of one; a machine that runs other tests takes longer, and downloads would not end in this time."""

Refused = Callable[..., tuple[int, str]]


@pytest.fixture
def refused(tmp_path: Path, open_to_all: Path) -> Refused:
    """The exit code and the words of `./tidehub up` on a machine with nothing installed and no package index."""
    place, software = tmp_path / "here", tmp_path / "software"
    place.mkdir()

    def up(*words: str | Path, **env: str) -> tuple[int, str]:
        start = time.monotonic()
        done = subprocess.run(
            [CHECKOUT / "tidehub", "up", "--state", tmp_path / "state", *words],
            cwd=place,
            env={
                "PATH": "/usr/bin:/bin",
                "HOME": str(tmp_path),
                "TIDEHUB_SOFTWARE": str(software),
                "TIDEHUB_PYTHON": sys.executable,
                "PIP_INDEX_URL": "http://127.0.0.1:9",
                **env,
            },
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "Traceback" not in done.stderr
        assert "Fetching" not in done.stderr and not software.exists()
        assert time.monotonic() - start < SECONDS
        return done.returncode, done.stdout + done.stderr

    return up


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield int(other.getsockname()[1])


@pytest.mark.parametrize("port", ["x", "-1", "65536", "8000.5", ""])
def test_a_port_that_is_none(refused: Refused, port: str) -> None:
    code, said = refused(f"--port={port}")
    assert code == 2 and "is not a port" in said and "from 0 to 65535" in said


def test_a_port_that_is_taken(refused: Refused, taken: int, tmp_path: Path) -> None:
    for words in ([], ["--built-in"]):
        code, said = refused("--port", str(taken), *words)
        assert code == 1 and f"port {taken} of 127.0.0.1 is taken by" in said and "up --port N" in said
    (tmp_path / "here" / "tidehub.yaml").write_text(text_of("laptop"))
    assert f"port {taken} of 127.0.0.1 is taken by" in refused("--port", str(taken))[1]
    (tmp_path / "public.yaml").write_text(text_of("protocoast"))
    words = [str(tmp_path / "public.yaml"), "--demo-login", "--port", str(taken)]
    assert f"port {taken} of 127.0.0.1 is taken by" in refused(*words)[1]


def test_a_site_file_that_is_none(refused: Refused, tmp_path: Path) -> None:
    code, said = refused("nothing.yaml")
    assert code == 2 and "nothing.yaml: the file does not exist" in said
    assert f"{CHECKOUT}/tidehub init" in said
    assert refused("--site", "nothing.yaml")[0] == refused(TIDEHUB_SITE="nothing.yaml")[0] == 2
    assert "this is a directory" in refused(tmp_path)[1]
    told = json.loads(refused("nothing.yaml", "--json")[1])
    assert told["ok"] is False and told["problems"][0]["what"] == "the file does not exist"


def test_a_state_that_cannot_be_one(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "thesis.tex").touch()
    assert "holds other files (thesis.tex)" in refused()[1]
    (tmp_path / "state" / "thesis.tex").unlink()
    (tmp_path / "state").rmdir()
    (tmp_path / "state").touch()
    assert "Not a directory" in refused()[1]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has other users' uids")
def test_a_state_of_another_user(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    os.chown(tmp_path / "state", 65534, 65534)
    assert "state belongs to uid 65534, and you are uid 0" in refused()[1]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root serves other users")
def test_a_directory_that_users_cannot_enter(refused: Refused, tmp_path: Path, open_to_all: Path) -> None:
    shut = open_to_all / "shut"
    shut.mkdir(mode=0o700)
    code, said = refused("--state", shut / "state")
    assert code == 1 and f"{shut} (mode 0700) lets no other user through" in said
    code, said = refused("--state", open_to_all / "state", TIDEHUB_SOFTWARE=str(shut / "software"))
    assert code == 1 and f"{shut} is closed to other users" in said and "chmod go+rx" in said
    assert not list(shut.iterdir())


def test_what_is_known_of_the_command_line_is_what_up_has() -> None:
    command: Any = typer.main.get_command(main.app)
    options = [one for one in command.get_command(None, "up").params if one.param_type_name == "option"]
    takes = {name for one in options if not (one.is_flag or one.count) for name in one.opts}
    assert takes == set(early.VALUES)
    assert Machine().port == early.DEFAULT_PORT and Machine().address == "127.0.0.1"


@pytest.mark.parametrize(
    ("typed", "file", "port"),
    [
        (["--detach", "x.yaml", "--port", "9000"], "x.yaml", "9000"),
        (["--port=9000", "--fit", "--", "-x.yaml"], "-x.yaml", "9000"),
        (["--set", "a=b", "--accept-missing", "homes", "x.yaml"], "x.yaml", None),
        (["--port"], None, None),
    ],
)
def test_words_are_understood_as_up_understands_them(
    typed: list[str], file: str | None, port: str | None
) -> None:
    words = early.Words.of(typed)
    assert (words.file, words.options.get("--port")) == (file, port)
