"""The first start on a machine, with the real package index: interrupted, resumed, and then without the network."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidehub.local.software import Software, layout
from tidehub.local.software.progress import Silent
from tidehub.release_sets import release

CHECKOUT = Path(__file__).resolve().parents[2]
SECONDS = 600
NO_INDEX = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple"}

pytestmark = pytest.mark.real


@pytest.fixture
def software() -> Iterator[Path]:
    """A software root that every user can enter, with nothing in it."""
    base = Path(tempfile.mkdtemp(prefix="tidehub-software-", dir="/tmp"))
    base.chmod(0o755)
    yield base / "software"
    shutil.rmtree(base)


def environment(software: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TIDEHUB_"))}
    return {**kept, "TIDEHUB_SOFTWARE": str(software), "PATH": "/usr/local/bin:/usr/bin:/bin", **more}


def start(software: Path, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        # A caller in the background may ignore SIGINT, and what it starts inherits that.
        ["env", "--default-signal=INT", str(CHECKOUT / "tidehub"), "--version"],
        env=environment(software, **more),
        cwd=software.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_interrupted_then_resumed_by_two_at_once_then_without_the_network(software: Path) -> None:
    first = start(software)
    assert first.stderr is not None
    for line in first.stderr:
        if "Installing the control environment" in line:
            break
    else:
        pytest.fail("it never came to installing")
    first.send_signal(signal.SIGINT)
    said = first.communicate(timeout=60)[1]
    assert first.returncode == 130
    assert "goes on from here" in said
    assert "Traceback" not in said

    both = [start(software), start(software)]
    ends = [(child.communicate(timeout=SECONDS), child.returncode) for child in both]
    assert [code for _, code in ends] == [0, 0], ends
    assert {out for (out, _), _ in ends} == {"tidehub 0.1.0\n"}
    assert sum("Installing the control environment" in err for (_, err), _ in ends) == 1

    offline = start(software, **NO_INDEX)
    assert offline.communicate(timeout=60) == ("tidehub 0.1.0\n", "")
    is_mended_after_a_power_cut(software)


def is_mended_after_a_power_cut(software: Path) -> None:
    """As measured after a real one: the marker is there, thousands of files are empty, in uv's cache too."""
    (environment,) = (software / "control").iterdir()
    emptied = [
        path for path in environment.glob("lib/python3.*/site-packages/**/*.py") if path.stat().st_size
    ]
    assert any(path.stat().st_nlink > 1 for path in emptied) or "UV_CACHE_DIR" in os.environ
    for path in emptied:
        os.truncate(path, 0)
    (environment / layout.CHECKED).write_text("the boot before\n")
    mending = start(software)
    told, said = mending.communicate(timeout=SECONDS)
    assert (mending.returncode, told) == (0, "tidehub 0.1.0\n"), said
    assert f"Reinstalling {environment}, because " in said
    assert not [path for path in emptied if not path.stat().st_size]
    # The other kind: nothing was looked at yet, and a module does not load.
    (module,) = environment.glob("lib/python3.*/site-packages/typer/main.py")
    kept = module.read_bytes()
    module.unlink()
    module.write_bytes(b"")
    failing = start(software)
    said = failing.communicate(timeout=60)[1]
    assert (failing.returncode, "Traceback" in said) == (1, False), said
    assert "own software is damaged" in said and "run ./tidehub again" in said
    again = start(software)
    assert again.communicate(timeout=SECONDS)[0] == "tidehub 0.1.0\n"
    assert module.read_bytes() == kept


def test_node_and_the_proxy_start_for_any_user(software: Path) -> None:
    made = Software(software, progress=Silent())
    node, program = made.proxy()
    as_other = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    told = subprocess.run(
        [node, program, "--version"],
        env={},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        **as_other,  # type: ignore[call-overload]
    )
    assert told.stdout.strip() == release().versions.proxy["configurable-http-proxy"], told.stderr
    assert made.node() == Path(node)
